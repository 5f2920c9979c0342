"""How a model of pictures of any size is measured: K on held-out pictures, and a hole that is
filled in (figure 5).
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound, L_null, bits, bits_per_dim, entropy_terms
from nonequilibrium.data.images import Pictures
from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.model.textures import TextureModel
from replication.data.images import DataError
from replication.data.textures import BARK, load_pictures
from replication.measure.measure import cores, threads
from replication.measure.measured import Measured
from replication.measure.metrics import metrics, seeded
from replication.restoration.holes import elsewhere, others, quality
from replication.restoration.inpaint import SOLVE
from replication.restoration.inpaint_any import coarsest, fill
from replication.settings.evaluation import TextureEvaluation

REPLICATES = 8  # independent estimates of K, whose spread is its Monte Carlo error
BLOCK = 64  # side of the squares that a few large pictures are cut into for the error of K
MANY = 10  # pictures from which on they are its unit themselves
SHOWN = (256, 320)  # height and width of what figure 5 shows
LIKE = 0.25  # grey levels within which two readers of JPEG agree on the mean and the standard deviation


def measured(experiment: str, model: TextureModel, its: TextureEvaluation) -> Measured:
    """K of the held-out pictures by the sampled sum over t, its errors, and figure 5.

    numbers: the contract of reports/metrics, in bits per pixel; source and title say which pictures
    they are, error_unit over what K_se is taken, K_each the K of each picture. The paper's numbers
    stand in it only if the pictures are the paper's.
    tables: K_by_time_step, columns t and K; figure_5, a row a picture and a method. arrays:
    K_per_example, one a unit; and uint8 (n, c, h, w) for the k-th picture: figure_5_<k>, it and it
    with noise in its hole; figure_5_<k>_constant and _through, samples by constant r and by r that
    looks through the model; figure_5_<k>_others, by the methods that numbers["others"] names.
    """
    pictures = trained_on(model)
    if not pictures.test:
        raise DataError(
            f"{pictures.title}: too small for a part of it to be held out, so there is nothing to measure on"
        )
    with threads(cores()):
        found = _bound(experiment, model, pictures, its)
        _figure_5(model, pictures, its, found)
    return found


def trained_on(model: TextureModel) -> Pictures:
    """The pictures that the weights were trained on, which need not be the best that are here;
    raises DataError.
    """
    params = model.params
    reasons = []
    for name in BARK if params.data == "bark" else [params.data]:
        try:
            found = load_pictures(name, params.channels, params.patch)
        except DataError as error:
            reasons.append(str(error))
            continue
        if all(abs(a - b) < LIKE for a, b in zip(model.scale_of(found), model.scale, strict=True)):
            return found
        reasons.append(f"{found.title} are others")
    raise DataError(
        f"the pictures that the weights were trained on are not here ({'; '.join(reasons)})"
    )


class Piece(NamedTuple):
    """A held-out picture for K: x^0 (1, c, h, w), and the side of the squares it is cut into, None
    for none.
    """

    x0: Tensor
    side: int | None

    def blocks(self, x: Tensor) -> Tensor:
        """x, shaped like x0, as squares (blocks, c, side, side)."""
        if self.side is None:
            return x
        grid = x[0].unfold(1, self.side, self.side).unfold(2, self.side, self.side)
        return grid.permute(1, 2, 0, 3, 4).flatten(0, 1)


def _pieces(model: TextureModel, pictures: list[Tensor], its: TextureEvaluation) -> list[Piece]:
    """Held-out pictures, cropped at their lower right to whole squares; pictures are the unit if
    there are many.
    """
    step, noise, pieces = coarsest(model.params), seeded(its.seed), []
    block = max(BLOCK, step)
    chosen = pictures[: its.n_heldout]
    for picture in chosen:
        cut = len(chosen) < MANY and min(picture.shape[1:]) >= block
        whole = block if cut else step
        h, w = (length // whole * whole for length in picture.shape[1:])
        pieces.append(Piece(model.x0(picture[None, :, :h, :w], noise), block if cut else None))
    return pieces


@torch.no_grad()
def _bound(
    experiment: str, model: TextureModel, pictures: Pictures, its: TextureEvaluation
) -> Measured:
    pieces, kernel = _pieces(model, pictures.test, its), model.kernel()
    reverse, proposal = model.reverse(kernel), model.proposal()
    noise, cumulative = seeded(its.seed + 1), torch.cumsum(proposal, 0)
    draws = max(1, round(its.draws / len(pieces)))
    rests = [entropy_terms(kernel, piece.blocks(piece.x0)).double() for piece in pieces]
    sizes = torch.cat(
        [
            torch.full((len(r),), piece.blocks(piece.x0)[0, 0].numel())
            for r, piece in zip(rests, pieces, strict=True)
        ]
    )
    kl = torch.zeros(REPLICATES, len(sizes), kernel.T + 1, dtype=torch.float64)
    for replicate in kl:
        # One systematic grid for all pictures and draws, shuffled, as in sampled_bound.
        grid = torch.arange(len(pieces) * draws) + torch.rand(
            (), generator=noise, dtype=torch.float64
        )
        u = (grid / len(grid))[torch.randperm(len(grid), generator=noise)].reshape(
            len(pieces), draws
        )
        steps, first = torch.searchsorted(cumulative, u, right=True).clamp(2, kernel.T), 0
        for piece, rest, row in zip(pieces, rests, steps.tolist(), strict=True):
            for t in row:
                terms = _kl(kernel, reverse, piece, t, noise)
                replicate[first : first + len(rest), t] += terms / (proposal[t] * draws)
            first += len(rest)
    rest = torch.cat(rests)
    bound = Bound((kl.mean(0).T / sizes).T, rest / sizes, (rest - kl.sum(2)) / sizes)
    null = torch.cat([L_null(kernel, piece.blocks(piece.x0)) for piece in pieces]) / sizes
    each = bits(bound.per_example).split([len(r) for r in rests])
    K_of_replicates = bits(
        bound.replicates.mean(1)
    )  # blocks share t, so that replicates as a whole are independent
    theirs = pictures.source == "uiuc"
    sigma, channels = model.scale.sigma, model.params.channels
    numbers = metrics(experiment, bound, float(null.mean()), its.seed)
    numbers |= {
        "K_mc_se": float(K_of_replicates.std()) / REPLICATES**0.5,
        "paper": numbers["paper"] if theirs else {},
        "n_heldout": len(pieces),
        "error_unit": "pictures"
        if pieces[0].side is None
        else f"squares of {pieces[0].side}×{pieces[0].side} pixels",
        "n_units": len(sizes),
        "K_each": [float(values.mean()) for values in each],
        "source": pictures.source,
        "title": pictures.title,
        "bits_per_dim": bits_per_dim(numbers["K"], channels, sigma),
        "bits_per_dim_se": numbers["K_se"] / channels,
        "sigma": sigma,
        "n_steps": model.params.n_steps,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "draws": draws * REPLICATES,
    }
    table = pd.DataFrame({"t": range(2, kernel.T + 1), "K": bits(bound.kl.mean(0))[2:].numpy()})
    return Measured(
        numbers, {"K_by_time_step": table}, {"K_per_example": bits(bound.per_example).float()}
    )


def _kl(kernel, reverse, piece: Piece, t: int, generator: torch.Generator) -> Tensor:
    """KL_t of each square of a picture, nats: the network sees the picture whole."""
    at = torch.tensor([t])
    xt = kernel.sample(kernel.q_marginal(piece.x0, at), generator)
    q, p = kernel.q_posterior(piece.x0, xt, at), reverse(xt, at)
    q, p = (Normal(*(piece.blocks(value.expand_as(xt)) for value in each)) for each in (q, p))
    return kernel.kl(q, p).double()


def middle(picture: Tensor, height: int, width: int) -> Tensor:
    """The middle of (c, h, w), at most that large."""
    top, left = (
        max(0, (a - b) // 2) for a, b in zip(picture.shape[1:], (height, width), strict=True)
    )
    return picture[:, top : top + height, left : left + width]


def hole_in(picture: Tensor, side: int) -> Tensor:
    """A square hole in the middle of (c, h, w): (h, w) bool, true where missing. At most half as
    long as the shorter side.
    """
    h, w = picture.shape[1:]
    side = min(side, min(h, w) // 2)
    hole = torch.zeros(h, w, dtype=torch.bool)
    hole[(h - side) // 2 :][:side, (w - side) // 2 :][:, :side] = True
    return hole


def _figure_5(
    model: TextureModel, pictures: Pictures, its: TextureEvaluation, found: Measured
) -> None:
    """The hole in the middle of held-out pictures, filled by posterior samples and by methods that
    have learned nothing.
    """
    T = model.params.n_steps
    seeds, rows = [its.seed + 10 + k for k in range(its.samples)], []
    for number, picture in enumerate(pictures.test[: its.n_shown]):
        truth = middle(picture, *SHOWN)
        hole = hole_in(truth, its.hole)
        noise = model.scale.to_pixels(torch.randn(truth.shape, generator=seeded(its.seed + 2)))
        noisy = torch.where(hole, noise, truth)
        thin = min(its.thin_steps, T)
        drawn = {
            "constant r": fill(model, truth, ~hole, seeds, "constant", T, SOLVE),
            "through the model": fill(model, truth, ~hole, seeds, "through", thin, SOLVE),
        }
        filled, left_out = others(noisy, hole)
        for way, samples in drawn.items():
            each = pd.DataFrame([quality(truth, sample, hole) for sample in samples])
            rows.append({"picture": number, "method": f"one sample, {way}", **each.mean()})
            mean = samples.double().mean(0).round().to(torch.uint8)
            rows.append(
                {
                    "picture": number,
                    "method": f"mean of {len(samples)} samples, {way}",
                    **quality(truth, mean, hole),
                }
            )
        rows += [
            {"picture": number, "method": name, **quality(truth, each, hole)}
            for name, each in filled.items()
        ]
        rows.append(
            {"picture": number, "method": "other places of the picture", **elsewhere(truth, hole)}
        )
        for way, samples in drawn.items():
            found.arrays[f"figure_5_{number}_{way.split()[0]}"] = samples
        found.arrays[f"figure_5_{number}"] = torch.stack([truth, noisy])
        found.arrays[f"figure_5_{number}_others"] = torch.stack(list(filled.values()))
    found.tables["figure_5"] = pd.DataFrame(rows)
    found.numbers |= {"hole": int(hole.any(0).sum()), "samples": its.samples, "thin_steps": thin}
    found.numbers["others"] = list(filled)
    means = (
        found.tables["figure_5"]
        .drop(columns="picture")
        .groupby("method", sort=False)
        .mean()
        .reset_index()
    )
    found.numbers["holes"] = means.astype(object).where(means.notna(), None).to_dict("records")
    if left_out:
        found.numbers["left_out"] = left_out
        print(left_out)
