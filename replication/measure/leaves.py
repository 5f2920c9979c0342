"""How dead leaves are measured: K of whole images beside MCGSM and Gaussians, and figure 4."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound, L_null, bits, kl_terms, mean_se, sampled_bound
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.data.leaves import MEAN, TEST_SEED, leaves_images, leaves_pictures
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.textures import LeavesModel
from replication.measure.mcgsm import MCGSM, per_image, sample_image
from replication.measure.measured import Measured
from replication.measure.metrics import by_time_step, metrics, per_pixel, seeded
from replication.measure.mixture import DIM, drawing, grown, load_mixture
from replication.settings.params import LeavesEvaluation, MCGSMParams

SMALL_MCGSM = MCGSMParams(components=2, features=30, doublings=1)  # for quick runs
# KL_t of whole images hardly varies. Pieces of a few training images estimate it at some steps t,
# and its spread, by which t is drawn, a part of the draws uniformly.
PIECES, PIECE, STEPS, FLOOR = 8, 128, 32, 0.1
GAUSSIAN_ENTROPY = bits(0.5 * math.log(2 * math.pi * math.e))  # of unit variance, bits


def evaluate(experiment: str, model: LeavesModel, settings: LeavesEvaluation) -> Measured:
    """K in bits per pixel of whole test images, other densities of the same images, and samples.

    An image is the unit of every standard error. mcgsm, gaussian: of pixels with a whole
    neighbourhood. limit: of any density, h(x) ≥ h(noise). leaf_pixels: of a visible leaf. arrays:
    figure_4, (3, size, size), and scores (2, n), K and MCGSM of each image.
    """
    p: Any = model.params
    sigma, seed = model.scale.sigma, settings.seed
    train = leaves_pictures(p).train
    clean, tops = leaves_images(settings.n_heldout, p.size, p.smallest, p.largest, TEST_SEED)
    heldout, noise = model.x0(clean, seeded(seed)), p.noise / sigma
    with torch.no_grad():
        kernel = model.kernel()
    bound = _bound(model, train, heldout, settings)
    null = float(L_null(kernel, heldout).mean()) / p.size**2
    numbers = metrics(experiment, bound, null, seed, draws=settings.draws)
    small = replace(SMALL_MCGSM, steps=settings.mcgsm_steps)
    mixture, sizes = grown(model, train, small) if settings.mcgsm_steps else load_mixture(p)
    K, log_mcgsm = bits(bound.per_example), bits(per_image(mixture, heldout))
    greys = heldout[:, 0].double() * sigma + MEAN
    borders = bits(given_borders(greys, tops[:, 0], p.noise)) + math.log2(sigma)
    leaf_pixels = p.size**2 / float(np.mean([len(top.unique()) for top in tops]))
    law = "size", "noise", "smallest", "largest", "n_steps"
    numbers |= {name: getattr(p, name) for name in law} | {"sigma": sigma}
    numbers["parameters"] = sum(w.numel() for w in model.network.parameters())
    numbers["limit"] = -GAUSSIAN_ENTROPY - math.log2(noise)
    numbers["limit_of_borders"], numbers["limit_of_borders_se"] = mean_se(borders)
    numbers |= {"leaf_pixels": leaf_pixels, "mcgsm_sizes": sizes}
    numbers["mcgsm"], numbers["mcgsm_se"] = mean_se(log_mcgsm)
    numbers["gaussian"] = _gaussians(model, train, heldout, seed + 4)
    numbers["margin_over_mcgsm"], numbers["margin_se"] = mean_se(K - log_mcgsm)
    reverse, shape = model.reverse(kernel), (1, p.size, p.size)
    by_mcgsm = sample_image(mixture, p.size, seeded(seed + 5))
    shown = heldout[0, 0], by_mcgsm, sample_each(kernel, reverse, 1, shape, seed + 6)[0, 0]
    tables = by_time_step(K=bits(bound.kl.mean(0)))
    figure_4, scores = torch.stack(shown).float(), torch.stack([K, log_mcgsm]).float()
    return Measured(numbers, tables, {"figure_4": figure_4, "scores": scores})


@torch.no_grad()
def _bound(model: LeavesModel, train, heldout: Tensor, settings: LeavesEvaluation) -> Bound:
    """The bound of held-out images (n, 1, h, w) in nats per pixel."""
    kernel, random = model.kernel(), seeded(settings.seed + 8)
    reverse, T = model.reverse(kernel), kernel.T
    side, pixels = min(PIECE, train[0].shape[-1]), heldout[0].numel()
    pieces = model.x0(torch.stack([image[..., :side, :side] for image in train[:PIECES]]), random)
    at = torch.linspace(2, T, min(STEPS, T - 1)).long()
    kl = [kl_terms(kernel, reverse, pieces, t.expand(len(pieces)), random) for t in at]
    by_step = torch.stack(kl) / side**2

    def at_all_t(values: Tensor) -> Tensor:
        between = np.interp(np.arange(2, T + 1), at.numpy(), values.double().numpy())
        return torch.cat([torch.zeros(2, dtype=torch.float64), torch.from_numpy(between)])

    weight = proposal_from(at_all_t(by_step.std(1)).square(), FLOOR)
    block, typical = max(1, 4 * 256**2 // pixels), pixels * at_all_t(by_step.mean(1))
    draws, random = settings.draws, seeded(settings.seed + 1)
    bound = sampled_bound(kernel, reverse, heldout, random, draws, (weight, typical), block=block)
    return per_pixel(bound, pixels)


def given_borders(greys: Tensor, tops: Tensor, noise: float) -> Tensor:
    """log p(x) given the leaf of each pixel, nats per pixel, (n,); no density exceeds its mean.

    greys, tops: (n, size, size), pixels and indices of leaves. Greys of leaves are integrated out.
    """
    results = []
    for x, top in zip(greys, tops, strict=True):
        _, leaf, k = top.unique(return_inverse=True, return_counts=True)
        sums = torch.zeros(len(k), dtype=torch.float64)
        mean = sums.index_add(0, leaf.flatten(), x.flatten()) / k
        squares = sums.index_add(0, leaf.flatten(), (x - mean[leaf]).square().flatten())
        of_mean = noise / k.sqrt()  # standard deviation of the mean of a leaf's pixels
        inside = torch.special.ndtr((1 - mean) / of_mean) - torch.special.ndtr(-mean / of_mean)
        logs = -k * math.log(noise) - (k - 1) / 2 * math.log(2 * math.pi) - squares / (2 * noise**2)
        results.append((logs + torch.log(of_mean) + torch.log(inside)).sum() / x.numel())
    return torch.stack(results)


def _gaussians(model: LeavesModel, train, heldout: Tensor, seed: int) -> dict[str, float]:
    """Bits per pixel of the held-out images under Gaussians learned from the training images."""
    random = seeded(seed)
    chain_rule = MCGSM(DIM, 1, 1, 1, random)
    chain_rule.whiten(*drawing(model, train)(200_000, random))
    independent = -GAUSSIAN_ENTROPY - bits((heldout.square().flatten(1).mean(1).double() - 1) / 2)
    full = bits(per_image(chain_rule, heldout))
    return {"independent": float(independent.mean()), "full covariance": float(full.mean())}
