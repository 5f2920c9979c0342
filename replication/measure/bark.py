"""How a model of pictures of any size is measured: K, and a hole that is filled in (figure 5)."""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound, L_null, bits, entropy_terms, mean_se
from nonequilibrium.data.images import Pictures
from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.model.textures import TextureModel
from replication.data.images import DataError
from replication.data.textures import BARK, load_pictures
from replication.measure.measured import Measured
from replication.measure.metrics import by_time_step, metrics, of_model, per_pixel, seeded
from replication.restoration.holes import elsewhere, others, quality
from replication.restoration.inpaint import SOLVE
from replication.restoration.inpaint_any import coarsest, fill
from replication.settings.params import TextureEvaluation

REPLICATES = 8  # independent estimates of K, whose spread is its Monte Carlo error
BLOCK = 64  # side of the squares that a few large pictures are cut into for the error of K
MANY = 10  # from this many pictures on, the unit of that error is a whole picture
SHOWN = (256, 320)  # height and width of what figure 5 shows
LIKE = 0.25  # grey levels by which two readers of JPEG may differ in mean and standard deviation


def evaluate(experiment: str, model: TextureModel, settings: TextureEvaluation) -> Measured:
    """K of the held-out pictures by the sampled sum over t, its errors, and figure 5.

    The paper's numbers stand beside it only if the pictures are the paper's. arrays: K_per_example,
    one per unit of the error; of the k-th picture, uint8 (n, c, h, w): figure_5_<k>, without and
    with its hole; figure_5_<k>_constant, _through and _others, the hole filled in.
    """
    pictures = trained_on(model)
    if not pictures.test:
        raise DataError(f"{pictures.title}: too small for a part to be held out and measured on")
    result = _bound(experiment, model, pictures, settings)
    result.add(_figure_5(model, pictures.test, settings))
    return result


def trained_on(model: TextureModel) -> Pictures:
    """The pictures that the weights were trained on; raises DataError if they are not here."""
    params, reasons = model.params, []
    for name in BARK if params.data == "bark" else [params.data]:
        try:
            pictures = load_pictures(name, params.channels, params.patch)
        except DataError as error:
            reasons.append(str(error))
            continue
        scales = zip(model.scale_of(pictures), model.scale, strict=True)
        if all(abs(a - b) < LIKE for a, b in scales):
            return pictures
        reasons.append(f"{pictures.title} are others")
    message = f"the pictures that the weights were trained on are not here ({'; '.join(reasons)})"
    raise DataError(message)


class Piece(NamedTuple):
    """A held-out picture, x^0 (1, c, h, w), and the side of its squares, None for the whole."""

    x0: Tensor
    side: int | None

    def blocks(self, x: Tensor) -> Tensor:
        """x, shaped like x0, as squares (blocks, c, side, side)."""
        if self.side is None:
            return x
        grid = x[0].unfold(1, self.side, self.side).unfold(2, self.side, self.side)
        return grid.permute(1, 2, 0, 3, 4).flatten(0, 1)


def _pieces(model: TextureModel, test: list[Tensor], settings: TextureEvaluation) -> list[Piece]:
    """Held-out pictures, cropped at the lower right to a whole number of squares."""
    step, noise, pieces = coarsest(model.params), seeded(settings.seed), []
    chosen, block = test[: settings.n_heldout], max(BLOCK, step)
    for picture in chosen:
        cut = len(chosen) < MANY and min(picture.shape[1:]) >= block
        whole = block if cut else step
        h, w = (length // whole * whole for length in picture.shape[1:])
        pieces.append(Piece(model.x0(picture[None, :, :h, :w], noise), block if cut else None))
    return pieces


@torch.no_grad()
def _bound(experiment: str, model: TextureModel, pictures: Pictures, settings) -> Measured:
    pieces, kernel = _pieces(model, pictures.test, settings), model.kernel()
    reverse, proposal = model.reverse(kernel), model.proposal()
    noise, cumulative = seeded(settings.seed + 1), torch.cumsum(proposal, 0)
    draws = max(1, round(settings.draws / len(pieces)))
    squares = [piece.blocks(piece.x0) for piece in pieces]
    rest = torch.cat([entropy_terms(kernel, x).double() for x in squares])
    null = torch.cat([L_null(kernel, x) for x in squares])
    sizes = torch.cat([torch.full((len(x),), x[0, 0].numel()) for x in squares])
    kl = torch.zeros(REPLICATES, len(sizes), kernel.T + 1, dtype=torch.float64)
    for replicate in kl:
        # One systematic grid for all pictures and draws, shuffled, as in sampled_bound.
        shift = torch.rand((), generator=noise, dtype=torch.float64)
        grid = torch.arange(len(pieces) * draws) + shift
        u = (grid / len(grid))[torch.randperm(len(grid), generator=noise)]
        steps = torch.searchsorted(cumulative, u, right=True).clamp(2, kernel.T)
        parts = replicate.split([len(x) for x in squares])
        for piece, part, row in zip(pieces, parts, steps.split(draws), strict=True):
            for t in row.tolist():
                part[:, t] += _kl(kernel, reverse, piece, t, noise) / (proposal[t] * draws)
    bound = per_pixel(Bound(kl.mean(0), rest, rest - kl.sum(2)), sizes)
    numbers = metrics(experiment, bound, float((null / sizes).mean()), settings.seed)
    side = pieces[0].side
    unit = "pictures" if side is None else f"squares of {side}×{side} pixels"
    # Blocks share t, so that replicates as a whole are independent, not their blocks.
    numbers["K_mc_se"] = mean_se(bits(bound.replicates.mean(1)))[1]
    numbers["paper"] = numbers["paper"] if pictures.source == "uiuc" else {}
    numbers |= {"n_heldout": len(pieces), "error_unit": unit, "n_units": len(sizes)}
    numbers |= {"source": pictures.source, "title": pictures.title, "draws": draws * REPLICATES}
    tables = by_time_step(K=bits(bound.kl.mean(0)))
    units = {"K_per_example": bits(bound.per_example).float()}
    return Measured(numbers | of_model(model, numbers), tables, units)


def _kl(kernel, reverse, piece: Piece, t: int, generator: torch.Generator) -> Tensor:
    """KL_t of each square of a picture, nats: the network sees the picture whole."""
    at = torch.tensor([t])
    xt = kernel.sample(kernel.q_marginal(piece.x0, at), generator)
    q, p = (
        Normal(*(piece.blocks(value.expand_as(xt)) for value in law))
        for law in (kernel.q_posterior(piece.x0, xt, at), reverse(xt, at))
    )
    return kernel.kl(q, p).double()


def hole_in(picture: Tensor, side: int) -> Tensor:
    """A square in the middle of (c, h, w), at most half as long as a side: (h, w) bool."""
    h, w = picture.shape[1:]
    side, hole = min(side, min(h, w) // 2), torch.zeros(h, w, dtype=torch.bool)
    hole[(h - side) // 2 :][:side, (w - side) // 2 :][:, :side] = True
    return hole


def _figure_5(model: TextureModel, test: list[Tensor], settings: TextureEvaluation) -> Measured:
    """A hole in held-out pictures, filled by posterior samples and by methods without training."""
    rows, arrays, T, left_out = [], {}, model.params.n_steps, ""
    seeds = [settings.seed + 10 + k for k in range(settings.samples)]
    few = min(settings.thin_steps, T)
    ways = {"constant r": ("constant", T), "through the model": ("through", few)}
    for number, picture in enumerate(test[: settings.n_shown]):
        top, left = (max(0, (a - b) // 2) for a, b in zip(picture.shape[1:], SHOWN, strict=True))
        truth = picture[:, top:, left:][:, : SHOWN[0], : SHOWN[1]]
        hole = hole_in(truth, settings.hole)
        noise = torch.randn(truth.shape, generator=seeded(settings.seed + 2))
        noisy = torch.where(hole, model.scale.to_pixels(noise), truth)
        filled, left_out = others(noisy, hole)
        arrays[f"figure_5_{number}"] = torch.stack([truth, noisy])
        arrays[f"figure_5_{number}_others"] = torch.stack(list(filled.values()))
        scores = {}
        for way, (r, steps) in ways.items():
            samples = fill(model, truth, ~hole, seeds, r, steps, SOLVE)
            arrays[f"figure_5_{number}_{r}"] = samples
            single = pd.DataFrame([quality(truth, sample, hole) for sample in samples])
            scores[f"one sample, {way}"] = single.mean()
            mean = samples.double().mean(0).round().to(torch.uint8)
            scores[f"mean of {len(samples)} samples, {way}"] = quality(truth, mean, hole)
        scores |= {name: quality(truth, other, hole) for name, other in filled.items()}
        scores["other places of the picture"] = elsewhere(truth, hole)
        rows += [{"picture": number, "method": name, **score} for name, score in scores.items()]
    if left_out:
        print(left_out)
    return Measured({}, {"figure_5": pd.DataFrame(rows)}, arrays)
