"""What an image costs under a model, in the unit of the later papers' tables, bits/dim.

Their bound is on the probability of the grey levels themselves (Ho et al. 2020, section 3):

    L_T + Σ_{t=2..T} KL( q(x^{t−1}|x^t,x^0) ‖ p(x^{t−1}|x^t) ) + L_0,

with L_T = KL( q(x^T|x^0) ‖ π ) and L_0 = −log P(x^0|x^1). P gives a level the part of N(μ(x^1,1),
Σ(x^1,1)) that lies within half a step of it; the darkest and the brightest level also get all that
lies beyond. The sum is that of the paper's K. The ends differ: the paper's last step is fixed (44),
and its K bounds a density, which images have when each pixel gets uniform noise of one level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.adapters.libraries import adapted
from nonequilibrium.bound.bound import Bound, bits, full_bound, kl_terms, sampled_bound
from nonequilibrium.bound.checks import check_count, check_examples, checked, noise_generator
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.errors import AdapterError

LAST_STEPS = ("levels", "fixed")


@dataclass
class Cost:
    """Bits/dim of held-out images, smaller is better. ``print`` shows it with both errors.

    bound: the same in nats and per image, see ``Bound``; with the last step "levels" column 1 of
    its ``kl`` is L_0.
    dims: dimensions of an image. offset: log2 of a level's width, which turns a density into a
    probability; 0 for "levels".
    """

    bound: Bound
    dims: int
    offset: float = 0.0

    @property
    def per_example(self) -> Tensor:
        """Bits/dim of each image, (n,)."""
        return self.offset - bits(self.bound.per_example) / self.dims

    @property
    def bits_per_dim(self) -> float:
        """The mean over the images."""
        return float(self.per_example.mean())

    @property
    def se(self) -> float:
        """Its standard error over images and Monte Carlo together, if the images are independent."""
        return bits(self.bound.se) / self.dims

    @property
    def mc_se(self) -> float:
        """Its standard error by Monte Carlo alone, given these images."""
        return bits(self.bound.mc_se) / self.dims

    @property
    def matrix(self) -> Tensor:
        """Bits/dim that each image loses at each step from x^t to x^{t−1}, (n, T + 1); unbiased;
        column 0 is zero.
        """
        return bits(self.bound.kl) / self.dims

    @property
    def by_step(self) -> Tensor:
        """Mean of ``matrix`` over the images, (T + 1,)."""
        return self.matrix.mean(0)

    @property
    def rest(self) -> float:
        """Bits/dim that no step loses: L_T for the last step "levels", both ends of the chain for
        "fixed".
        """
        return self.bits_per_dim - float(self.by_step.sum())

    def __str__(self) -> str:
        return f"{self.bits_per_dim:.4f} ± {self.se:.4f} bits/dim (Monte Carlo alone ± {self.mc_se:.4f})"


def log_level(x: Tensor, p: Normal, levels: int = 256) -> Tensor:
    """log of the probability that ``p`` gives the level at x, nats, float64, of x's shape: the
    decoder of Ho et al. (2020).

    x: whole levels scaled to [−1, 1]. The normal distribution function is exact and nothing is cut
    off, so that the probabilities of all levels have sum one. The published programs use an
    approximation by tanh and put a floor under the probability.
    """
    mean, var = p.mean.double().cpu(), p.var.double().cpu()
    x, half = x.double().cpu(), 1 / (levels - 1)
    sigma = var.sqrt()
    lower, upper = (x - half - mean) / sigma, (x + half - mean) / sigma
    lower = torch.where(x < -1 + half, -math.inf, lower)
    upper = torch.where(x > 1 - half, math.inf, upper)
    # Both in the lower half, where the logarithm of the distribution function keeps its precision
    # far from the mean.
    flip = lower + upper > 0
    lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return log_upper + torch.log(-torch.expm1(log_lower - log_upper))


@torch.no_grad()
def step_to_levels(
    kernel: GaussianKernel,
    reverse,
    x0: Tensor,
    generator=None,
    levels: int = 256,
    noise: Tensor | None = None,
) -> Tensor:
    """L_0 = −log P(x^0|x^1) at one draw of x^1 each, (n,) nats, float64. noise: frozen noise for
    the draw, shaped like x0.
    """
    x1 = kernel.sample(kernel.q_marginal(x0, 1), generator, noise)
    p = checked(kernel, reverse)(x1, torch.ones(len(x0), dtype=torch.long))
    return -kernel.sum_event(log_level(x0, p, levels))


def as_levels(images, levels: int) -> Tensor:
    """Images as whole levels 0..levels − 1, (n, ...) float64: such levels, or levels scaled to [−1,
    1]. Raises AdapterError.
    """
    images = torch.as_tensor(images).detach().cpu()
    if images.dtype == torch.bool and levels > 2:
        raise AdapterError(
            f"the images are booleans; with {levels} levels they must be whole grey levels"
        )
    if images.dim() < 2 or len(images) < 2:
        raise AdapterError(
            f"the images have shape {tuple(images.shape)}; they must be at least two, (n, c, h, w)"
        )
    scaled = images.is_floating_point()
    level = (images.double() + 1) * (levels - 1) / 2 if scaled else images.double()
    whole = level.round()
    if not ((level - whole).abs() < 1e-2).all() or not ((whole >= 0) & (whole <= levels - 1)).all():
        raise AdapterError(
            f"the images have values from {images.min().item():g} to {images.max().item():g}; they must be whole levels from 0 to "
            f"{levels - 1} of a whole type, or such levels scaled to [-1, 1] of a real type, not resized or made noisy"
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
    """Bits/dim of held-out images under a model, an upper bound on their cost, with both errors and
    where the bits are lost.

    model: a kernel and a reverse, or what ``adapted`` makes such a pair of. Its x^0 is images
    scaled to [−1, 1].
    images: (n, c, h, w), n ≥ 2, whole grey levels (uint8) or such levels scaled to [−1, 1].
    draws: steps t an image and replicate, drawn by importance from a short pilot; None takes all T
    of them.
    last_step: "levels" is that of the later papers, whose tables have this number; "fixed" is the
        paper's (44), for the same images with uniform noise of one level, where bits/dim = log2 σ −
        K/dims with x^0 = pixel/σ.
    levels: grey levels of a pixel. block: images at once.
    Raises AdapterError, BoundError.
    """
    if last_step not in LAST_STEPS:
        raise AdapterError(f"last_step is {last_step!r}; it must be one of {', '.join(LAST_STEPS)}")
    replicates, block = check_count("replicates", replicates, 2), check_count("block", block)
    kernel, reverse = adapted(model)
    level, generator = (
        as_levels(images, check_count("levels", levels, 2)),
        torch.Generator().manual_seed(seed),
    )
    if last_step == "fixed":
        level = level + torch.rand(level.shape, generator=generator, dtype=torch.float64) - 0.5
    x0 = (level * 2 / (levels - 1) - 1).to(getattr(reverse, "device", None) or "cpu", torch.float32)
    x0 = check_examples(kernel, x0)
    if draws is None:
        parts = [
            full_bound(kernel, reverse, part, generator, replicates, block=block)
            for part in split(x0, block)
        ]
        kl, rest = torch.cat([part.kl for part in parts]), torch.cat([part.rest for part in parts])
        bound = Bound(kl, rest, torch.cat([part.replicates for part in parts], 1))
    else:
        proposal = pilot(kernel, reverse, x0, generator)
        bound = sampled_bound(
            kernel, reverse, x0, generator, draws, proposal, replicates=replicates, block=block
        )
    dims = x0[0].numel()
    if last_step == "fixed":
        return Cost(bound, dims, math.log2((levels - 1) / 2))
    return Cost(_to_levels(bound, kernel, reverse, x0, generator, levels, block), dims)


def split(x0: Tensor, block: int) -> list[Tensor]:
    """x0 in blocks of about equal size, none of a single example where there are more."""
    return list(x0.tensor_split(max(1, min(math.ceil(len(x0) / block), len(x0) // 2))))


def _to_levels(
    bound: Bound, kernel: GaussianKernel, reverse, x0: Tensor, generator, levels: int, block: int
) -> Bound:
    """The bound with L_T and L_0 in place of the paper's ends."""
    noise = noise_generator(generator, x0.device)
    first = torch.stack(
        [
            torch.cat(
                [step_to_levels(kernel, reverse, part, noise, levels) for part in x0.split(block)]
            )
            for _ in range(len(bound.replicates))
        ]
    )
    exact = x0.double().cpu()
    end = kernel.q_marginal(exact, kernel.T)
    prior = kernel.kl(end, kernel.stationary(exact.shape, exact.dtype))
    kl = bound.kl.clone()
    kl[:, 1] = first.mean(0)
    return Bound(kl, -prior, bound.replicates - bound.rest - prior - first)


@torch.no_grad()
def pilot(
    kernel: GaussianKernel, reverse, x0: Tensor, generator, examples: int = 16, steps: int = 64
) -> Tensor:
    """Weights by which ``sampled_bound`` draws t, (T + 1,): from the mean squares of KL_t of a few
    images at a few steps.

    The steps are even in log t, because early steps cost most, and what lies between them is
    interpolated. Weights only have to be near the best: every choice leaves the estimate unbiased.
    """
    few, noise = x0[:examples], noise_generator(generator, x0.device)
    grid = np.unique(np.geomspace(2, kernel.T, steps).round().astype(int))
    squares = [
        float(
            kl_terms(kernel, reverse, few, torch.full((len(few),), int(t)), noise)
            .double()
            .square()
            .mean()
        )
        for t in grid
    ]
    t = np.arange(2, kernel.T + 1)
    between = np.interp(np.log(t), np.log(grid), np.log(np.maximum(squares, 1e-30)))
    return proposal_from(
        torch.cat([torch.zeros(2, dtype=torch.float64), torch.from_numpy(np.exp(between))]), 0.1
    )
