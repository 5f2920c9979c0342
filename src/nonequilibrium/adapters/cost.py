"""The cost of an image under a model in the unit of the later papers' tables, bits/dim.

Their bound is on the probability of the grey levels themselves (Ho et al. 2020, section 3):

    L_T + Σ_{t=2..T} KL( q(x^{t−1}|x^t,x^0) ‖ p(x^{t−1}|x^t) ) + L_0,

with L_T = KL( q(x^T|x^0) ‖ π ) and L_0 = −log P(x^0|x^1). P gives a level the part of the Gaussian
p(x^0|x^1) within half a step of it, the outermost levels also all beyond. The paper's K has the
same sum and other ends: its last step is fixed (44), and it bounds the density of noisy pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.adapters.libraries import adapted
from nonequilibrium.adapters.prediction import check, kind
from nonequilibrium.bound.bound import Bound, bits, full_bound, kl_terms, sampled_bound
from nonequilibrium.bound.checks import check_count, check_examples, checked, noise_generator
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.errors import AdapterError


class Cost(NamedTuple):
    """Bits/dim of held-out images, smaller is better; ``print`` shows both errors."""

    bits_per_dim: float  # the mean over the images
    se: float  # its standard error over images, assumed independent, and Monte Carlo together
    mc_se: float  # its standard error by Monte Carlo alone, given these images
    per_example: Tensor  # (n,)
    matrix: Tensor  # (n, T + 1), lost by an image from x^t to x^{t−1}; unbiased; column 0 is zero
    by_step: Tensor  # its mean over the images
    rest: float  # that no step loses: L_T for the last step "levels", both ends for "fixed"

    def __str__(self) -> str:
        cost = f"{self.bits_per_dim:.4f} ± {self.se:.4f} bits/dim"
        return f"{cost} (Monte Carlo alone ± {self.mc_se:.4f})"


def _cost(bound: Bound, dims: int, offset: float = 0.0) -> Cost:
    """offset: log2 of a level's width, which turns a density into a probability."""
    per_example, matrix = offset - bits(bound.per_example) / dims, bits(bound.kl) / dims
    mean, by_step = float(per_example.mean()), matrix.mean(0)
    errors, rest = (bits(bound.se) / dims, bits(bound.mc_se) / dims), mean - float(by_step.sum())
    return Cost(mean, *errors, per_example, matrix, by_step, rest)


def log_level(x: Tensor, p: Normal, levels: int = 256) -> Tensor:
    """log of the probability that ``p`` gives the level at x, scaled to [−1, 1]; nats, float64.

    It is exact, where published programs have an approximation by tanh with a floor.
    """
    mean, sigma = p.mean.double().cpu(), p.var.double().cpu().sqrt()
    x, half = x.double().cpu(), 1 / (levels - 1)
    lower, upper = (x - half - mean) / sigma, (x + half - mean) / sigma
    lower = torch.where(x < -1 + half, -math.inf, lower)
    upper = torch.where(x > 1 - half, math.inf, upper)
    # Both in the lower half, where the logarithm of the distribution function keeps its digits.
    flip = lower + upper > 0
    lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return log_upper + torch.log(-torch.expm1(log_lower - log_upper))


@torch.no_grad()
def step_to_levels(
    kernel: GaussianKernel, reverse, x0: Tensor, generator=None, levels: int = 256, noise=None
) -> Tensor:
    """L_0 = −log P(x^0|x^1) at a draw of x^1 per image, by ``noise`` if frozen, (n,) nats."""
    x1 = kernel.sample(kernel.q_marginal(x0, 1), generator, noise)
    p = checked(kernel, reverse)(x1, torch.ones(len(x0), dtype=torch.long))
    return -kernel.sum_event(log_level(x0, p, levels))


def as_levels(images, levels: int) -> Tensor:
    """Images as whole levels 0..levels − 1, (n, ...) float64; raises AdapterError.

    images: a tensor, an array, or a list of arrays or pictures; levels, or levels on [−1, 1].
    """
    several = images if isinstance(images, list | tuple) else ()
    modes = {image.mode for image in several if hasattr(image, "mode")}
    try:
        if isinstance(images, Tensor):
            given = images.detach().to_dense().cpu()
        else:
            array = np.asarray(images)
            given = torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
        if modes:
            given = given.movedim(-1, 1) if modes == {"RGB"} else given[:, None]
    except (TypeError, ValueError, RuntimeError, IndexError):
        given = torch.zeros((), dtype=torch.complex64)
    real = not given.is_complex() and modes <= {"L", "RGB"}
    check(real, "the images are", kind(images), "real numbers, or all pictures of mode L or RGB")
    fits = given.dim() > 1 and len(given) > 1 and given.numel() > 0
    check(fits, "the images have shape", tuple(given.shape), "at least two, (n, c, h, w)")
    values, off = given.double(), 1e-2
    if given.is_floating_point():
        values = (values + 1) * (levels - 1) / 2
        off = max(off, torch.finfo(given.dtype).eps * (levels - 1) / 4)
    whole = values.round()
    near = (values - whole).abs() < (off if off < 0.25 else 0.0)
    fits = bool((near & (whole >= 0) & (whole <= levels - 1)).all())
    if not fits or (given.dtype == torch.bool and levels > 2):
        low, high = given.double().aminmax()
        raise AdapterError(
            f"the images have values from {low:g} to {high:g} of {given.dtype}; they must be whole "
            f"levels from 0 to {levels - 1}, or such levels scaled to [-1, 1] of a real type that "
            "can tell them apart, not resized or made noisy"
        )
    return whole


def bits_per_dim(
    model,
    images,
    draws: int | None = 20,
    replicates: int = 2,
    seed: int = 0,
    last_step: str = "levels",
    levels: int = 256,
    block: int = 64,
) -> Cost:
    """Bits/dim of held-out images under a model, an upper bound on their cost, with both errors.

    model: a kernel and a reverse, or a model that ``adapted`` knows. images: see ``as_levels``.
    draws: steps t per image and replicate, drawn by importance from a short pilot; None: all T.
    last_step: "levels" is that of the later papers' tables; "fixed" is the paper's (44), for images
        with uniform noise of one level: log2 σ − K/dims with x^0 = pixel/σ.
    levels: of a pixel. block: images at once. Raises AdapterError, BoundError.
    """
    check(last_step in ("levels", "fixed"), "last_step is", repr(last_step), "levels or fixed")
    replicates, block = check_count("replicates", replicates, 2), check_count("block", block)
    try:
        generator = torch.Generator().manual_seed(check_count("seed", seed, 0))
    except (ValueError, RuntimeError):
        raise AdapterError(f"seed is {seed!r}; it must be a whole number below 2^64") from None
    kernel, reverse = adapted(model)
    level = as_levels(images, check_count("levels", levels, 2))
    if last_step == "fixed":
        level = level + torch.rand(level.shape, generator=generator, dtype=torch.float64) - 0.5
    x0 = (level * 2 / (levels - 1) - 1).to(getattr(reverse, "device", None) or "cpu", torch.float32)
    work = kernel, reverse, check_examples(kernel, x0), generator
    if draws is None:
        bound = _every_step(*work, replicates, block)
    else:
        bound = sampled_bound(*work, draws, pilot(*work), replicates=replicates, block=block)
    dims = x0[0].numel()
    if last_step == "fixed":
        return _cost(bound, dims, math.log2((levels - 1) / 2))
    return _cost(_to_levels(bound, *work, levels, block), dims)


def _every_step(kernel, reverse, x0: Tensor, generator, replicates: int, block: int) -> Bound:
    """``full_bound`` in blocks of images, none of a single one."""
    blocks = x0.tensor_split(max(1, min(math.ceil(len(x0) / block), len(x0) // 2)))
    parts = [full_bound(kernel, reverse, x, generator, replicates, block=block) for x in blocks]
    kl, rest = torch.cat([part.kl for part in parts]), torch.cat([part.rest for part in parts])
    return Bound(kl, rest, torch.cat([part.replicates for part in parts], 1))


def _to_levels(bound: Bound, kernel, reverse, x0, generator, levels: int, block: int) -> Bound:
    """The bound with L_T and L_0, one draw per replicate, in place of the paper's ends."""
    work = kernel, reverse, noise_generator(generator, x0.device), levels
    first = torch.stack([_last_steps(x0.split(block), *work) for _ in bound.replicates])
    exact = x0.double().cpu()
    end = kernel.q_marginal(exact, kernel.T)
    prior = kernel.kl(end, kernel.stationary(exact.shape, exact.dtype))
    kl = bound.kl.clone()
    kl[:, 1] = first.mean(0)
    return Bound(kl, -prior, bound.replicates - bound.rest - prior - first)


def _last_steps(blocks, kernel, reverse, noise: torch.Generator, levels: int) -> Tensor:
    return torch.cat([step_to_levels(kernel, reverse, x, noise, levels) for x in blocks])


@torch.no_grad()
def pilot(kernel, reverse, x0: Tensor, generator, examples: int = 16, steps: int = 64) -> Tensor:
    """Weights by which t is drawn, (T + 1,): mean squares of KL_t of a few images at a few steps.

    Whatever the weights are, the estimate is unbiased.
    """
    few, noise = x0[:examples], noise_generator(generator, x0.device)
    # Even in log t, as early steps cost most.
    grid = np.unique(np.geomspace(2, kernel.T, steps).round().astype(int))
    kl = [kl_terms(kernel, reverse, few, torch.full((len(few),), int(t)), noise) for t in grid]
    squares = [float(x.double().square().mean()) for x in kl]
    t = np.arange(2, kernel.T + 1)
    between = np.interp(np.log(t), np.log(grid), np.log(np.maximum(squares, 1e-30)))
    weights = torch.cat([torch.zeros(2, dtype=torch.float64), torch.from_numpy(np.exp(between))])
    return proposal_from(weights, 0.1)
