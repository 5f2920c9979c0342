"""How dead leaves are measured: K of whole images, beside MCGSM and Gaussians on the same ones, and
samples of both (figure 4).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from skimage.measure import label
from torch import Tensor

from nonequilibrium.bound.bound import Bound, L_null, bits, kl_terms, sampled_bound
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.data.leaves import MEAN, TEST_SEED, VARIANCE, images_and_leaves, leaves_pictures
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.leaves import LeavesModel
from replication.measure.mcgsm import MCGSM, per_image, sample_image
from replication.measure.measure import cores, threads
from replication.measure.measured import Measured
from replication.measure.metrics import metrics, seeded
from replication.measure.mixture import SIDE, drawing, grown, load_mixture
from replication.restoration.holes import gradients, spectrum
from replication.settings import paper
from replication.settings.evaluation import LeavesEvaluation, MCGSMParams

SMALL_MCGSM = MCGSMParams(components=2, features=30, doublings=1)  # for quick runs
# A whole image has so many pixels that KL_t hardly depends on the noise or on the image. So pieces
# of a few training images say what it is about, at some steps t, and how far apart images are;
# draws of t go where they are far apart, a part of them everywhere.
PIECES, PIECE, STEPS, FLOOR = 8, 128, 32, 0.1
SMALL = 64  # side of the patches by which it is shown that size does not matter
GAUSSIAN_ENTROPY = bits(0.5 * math.log(2 * math.pi * math.e))  # of unit variance, bits


def measured(experiment: str, model: LeavesModel, its: LeavesEvaluation) -> Measured:
    """K in bits per pixel of whole test images, what others reach on the same images, and a sample
    of each.

    numbers: the contract of reports/metrics; an image is the unit of every standard error.
    ``mcgsm``, ``gaussian``: mean log density of the pixels that have a whole neighbourhood, which
    spares them the border. ``limit``: what no density can exceed, from the noise alone, h(x) ≥
    h(noise). ``limit_of_borders``: the same, from ``given_borders``. ``leaf_pixels``: of a leaf
    that is seen. ``disc_bits``: see ``disc_bits``. arrays: figure_4, (3, size, size), and the
    scores image by image.
    """
    with threads(cores()):
        return _measured(experiment, model, its)


def _measured(experiment: str, model: LeavesModel, its: LeavesEvaluation) -> Measured:
    p = model.params
    train = leaves_pictures(p).train
    clean, tops = images_and_leaves(its.n_heldout, p.size, p.smallest, p.largest, TEST_SEED)
    heldout = model.x0(clean, seeded(its.seed))
    size, noise = clean.shape[-1], model.params.noise / model.scale.sigma
    about = _pilot(model, train, its)
    whole, kl = _K(model, heldout, its, 1, *about)
    small, _ = _K(model, _corners(heldout), its, 2, *about)
    by_image = [
        value.unflatten(-1, (len(heldout), -1)).mean(-1)
        for value in (small.kl.mT, small.rest, small.replicates)
    ]
    small = Bound(by_image[0].mT, *by_image[1:])
    kernel = model.kernel()
    numbers = metrics(
        experiment,
        whole,
        float(L_null(kernel, heldout).mean()) / size**2,
        its.seed,
        draws=its.draws,
    )
    mixture, sizes = (
        grown(model, train, replace(SMALL_MCGSM, steps=its.mcgsm_steps))
        if its.mcgsm_steps
        else load_mixture(model.params)
    )
    ours, theirs = bits(whole.per_example), bits(per_image(mixture, heldout, SIDE))
    borders = bits(
        given_borders(heldout[:, 0].double() * model.scale.sigma + MEAN, tops[:, 0], p.noise)
    )
    borders = borders + math.log2(model.scale.sigma)
    leaf_pixels = size**2 / float(np.mean([len(top.unique()) for top in tops]))
    numbers |= {
        "size": size,
        "noise": model.params.noise,
        "noise_in_units_of_sigma": noise,
        "smallest": model.params.smallest,
        "largest": model.params.largest,
        "sigma": model.scale.sigma,
        "n_steps": model.params.n_steps,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "limit": -GAUSSIAN_ENTROPY - math.log2(noise),
        "limit_of_borders": _mean(borders),
        "limit_of_borders_se": _se(borders),
        "leaf_pixels": leaf_pixels,
        "disc_bits": disc_bits(leaf_pixels, p.smallest, p.largest),
        "K_64": bits(small.K),
        "K_64_minus_K": _mean(bits(small.per_example) - ours),
        "K_64_minus_K_se": _se(bits(small.per_example) - ours),
        "mcgsm": _mean(theirs),
        "mcgsm_se": _se(theirs),
        "mcgsm_sizes": sizes,
        "gaussian": _gaussians(model, train, heldout, its.seed + 4),
        "margin_over_mcgsm": _mean(ours - theirs),
        "margin_se": _se(ours - theirs),
        "mcgsm_paper": paper.MCGSM_DEAD_LEAVES,
    }
    shown = {
        "data": heldout[0, 0],
        "MCGSM": sample_image(mixture, size, seeded(its.seed + 5), SIDE),
        "model": sample_each(kernel, model.reverse(kernel), 1, (1, size, size), its.seed + 6)[0, 0],
    }
    found = {name: statistics(x, noise) for name, x in shown.items()}
    # The data's own statistics come from all test images, of which the one that is shown is a small
    # part.
    every = [statistics(x, noise) for x in heldout[:, 0]]
    found["data"] = {key: np.mean([one[key] for one in every], 0) for key in every[0]}
    numbers["flat"] = {name: float(one["flat"][0]) for name, one in found.items()}
    tables = {
        "K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), "K": bits(kl)[2:].numpy()})
    }
    for key in ("marginal", "gradient", "spectrum"):
        tables[key] = pd.DataFrame(
            {"at": PLACES[key](size)} | {name: one[key] for name, one in found.items()}
        )
    scores = torch.stack([ours, theirs]).float()
    return Measured(
        numbers,
        tables,
        {"figure_4": torch.stack([x.float() for x in shown.values()]), "scores": scores},
    )


@torch.no_grad()
def _pilot(model: LeavesModel, train: list[Tensor], its: LeavesEvaluation) -> tuple[Tensor, Tensor]:
    """What KL_t is about, nats per pixel, and how far from it training images are, root mean
    square: (T + 1,) each.
    """
    kernel, random = model.kernel(), seeded(its.seed + 8)
    side = min(PIECE, train[0].shape[-1])
    x0 = model.x0(torch.stack([image[..., :side, :side] for image in train[:PIECES]]), random)
    at = torch.linspace(2, kernel.T, min(STEPS, kernel.T - 1)).long()
    kl = (
        torch.stack(
            [kl_terms(kernel, model.reverse(kernel), x0, t.expand(len(x0)), random) for t in at]
        )
        / side**2
    )

    def everywhere(values: Tensor) -> Tensor:
        between = np.interp(np.arange(2, kernel.T + 1), at.numpy(), values.double().numpy())
        return torch.cat([torch.zeros(2, dtype=torch.float64), torch.from_numpy(between)])

    return everywhere(kl.mean(1)), everywhere(kl.std(1))


def _K(
    model: LeavesModel,
    x0: Tensor,
    its: LeavesEvaluation,
    offset: int,
    typical: Tensor,
    apart: Tensor,
) -> tuple[Bound, Tensor]:
    """The bound of x0 (n, 1, h, w) in nats per pixel, and its mean term by t. typical, apart: of
    ``_pilot``.
    """
    with torch.no_grad():
        kernel = model.kernel()
    pixels = x0.shape[-1] * x0.shape[-2]
    block = max(1, 4 * 256**2 // pixels)
    weight = proposal_from(apart.square(), FLOOR)
    bound = sampled_bound(
        kernel,
        model.reverse(kernel),
        x0,
        seeded(its.seed + offset),
        its.draws,
        (weight, pixels * typical),
        block=block,
    )
    scaled = Bound(bound.kl / pixels, bound.rest / pixels, bound.replicates / pixels)
    return scaled, scaled.kl.mean(0)


def given_borders(greys: Tensor, tops: Tensor, noise: float) -> Tensor:
    """log p(x) given which leaf each pixel belongs to, nats per pixel, (n,): exact, and more than
    any density of x has in expectation.

    greys: (n, size, size) with noise of standard deviation ``noise``. tops: index of the leaf,
    likewise. A leaf of k pixels has one grey, uniform on 0..1, so that the noise of its pixels is
    integrated over one unknown mean.
    """
    found = []
    for x, top in zip(greys, tops, strict=True):
        _, leaf, k = top.unique(return_inverse=True, return_counts=True)
        sums = torch.zeros(len(k), dtype=torch.float64)
        mean = sums.index_add(0, leaf.flatten(), x.flatten()) / k
        squares = sums.index_add(0, leaf.flatten(), (x - mean[leaf]).square().flatten())
        of_mean = noise / k.sqrt()  # the mean of a leaf's pixels is this uncertain
        inside = torch.special.ndtr((1 - mean) / of_mean) - torch.special.ndtr(-mean / of_mean)
        logs = -k * math.log(noise) - (k - 1) / 2 * math.log(2 * math.pi) - squares / (2 * noise**2)
        found.append((logs + torch.log(of_mean) + torch.log(inside)).sum() / x.numel())
    return torch.stack(found)


def disc_bits(leaf_pixels: float, smallest: float, largest: float, step: float = 0.25) -> float:
    """Bits that name a disc's place, within the area of a leaf that is seen, and its radius, to
    ``step`` pixels.

    About what a leaf's border costs at the least: the entropies of both less log2 of the step.
    Which leaf lies on top comes to it.
    """
    # The density of radii is c r^−3, and −E log(c r^−3) = 3 E log r − log c.
    kept = smallest**-2 - largest**-2
    log_radius = (
        smallest**-2 * (math.log(smallest) + 0.5) - largest**-2 * (math.log(largest) + 0.5)
    ) / kept
    radius = 3 * log_radius - math.log(2 / kept)
    return bits(math.log(leaf_pixels) + radius) - 3 * math.log2(step)


def _corners(images: Tensor) -> Tensor:
    """The four outermost patches of each image, at most SMALL wide: (4 n, 1, side, side), those of
    an image together.
    """
    side = min(SMALL, images.shape[-1] // 2)
    first, last = slice(0, side), slice(images.shape[-1] - side, None)
    parts = [images[..., rows, columns] for rows in (first, last) for columns in (first, last)]
    return torch.stack(parts, 1).flatten(0, 1)


def _gaussians(
    model: LeavesModel, train: list[Tensor], heldout: Tensor, seed: int
) -> dict[str, float]:
    """Bits per pixel of the held-out images under Gaussians that learned from the training images."""
    random = seeded(seed)
    chain_rule = MCGSM(SIDE**2 // 2, 1, 1, 1, random)
    chain_rule.whiten(*drawing(model, train)(200_000, random))
    independent = -GAUSSIAN_ENTROPY - bits((heldout.square().flatten(1).mean(1).double() - 1) / 2)
    return {
        "independent": _mean(independent),
        "full covariance": _mean(bits(per_image(chain_rule, heldout, SIDE))),
    }


def _mean(values: Tensor) -> float:
    return float(values.mean())


def _se(values: Tensor) -> float:
    return float(values.std()) / len(values) ** 0.5


MARGINAL = np.linspace(-2.5, 2.5, 51)  # borders of histograms, in units of sigma
GRADIENT = np.linspace(-4, 4, 81)
LEVELS = 255 * VARIANCE**0.5  # grey levels in a unit of sigma
FLAT_AREA = 100  # pixels; a flat region that has at least as many counts


def statistics(x: Tensor, noise: float) -> dict[str, np.ndarray]:
    """What an image (size, size) looks like: histograms of pixels and of differences of neighbours,
    power (dB), share of flat area.

    A region is flat where neighbours differ by less than four times what noise of the size
    ``noise`` alone makes them differ.
    """
    x = x.double()
    across, down = x.diff(dim=1), x.diff(dim=0)
    limit = 4 * 2**0.5 * noise
    edge = torch.zeros(x.shape, dtype=torch.bool)
    edge[:, 1:] |= across.abs() > limit
    edge[1:] |= down.abs() > limit
    regions = label(~edge.numpy(), connectivity=1)
    areas = np.bincount(regions.ravel())[1:]
    return {
        "marginal": np.histogram(x, MARGINAL, density=True)[0],
        "gradient": np.histogram(gradients(x[None]), GRADIENT, density=True)[0],
        "spectrum": spectrum(x[None] * LEVELS).numpy(),
        "flat": np.array([areas[areas >= FLAT_AREA].sum() / x.numel()]),
    }


PLACES = {
    "marginal": lambda size: (MARGINAL[1:] + MARGINAL[:-1]) / 2,
    "gradient": lambda size: (GRADIENT[1:] + GRADIENT[:-1]) / 2,
    "spectrum": lambda size: (
        2 * np.arange(size // 4) + 1
    ),  # cycles an image, the middle of each ring
}
