"""A model, its images and a generator: the losses at drawn steps, whose sum is the bound.

The bound of the later papers is on the probability of the grey levels themselves (Ho et al. 2020):

    L_T + Σ_{t=2..T} KL( q(x^{t−1}|x^t,x^0) ‖ p(x^{t−1}|x^t) ) + L_0,

with L_T = KL( q(x^T|x^0) ‖ π ) and L_0 = −log P(x^0|x^1). P gives a level the part of the Gaussian
p(x^0|x^1) within half a step of it, the outermost levels also all beyond. The paper's K has the
same sum and other ends: its last step is fixed (44), and it bounds the density of noisy pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.adapters.checks import as_levels, check
from nonequilibrium.adapters.libraries import adapted
from nonequilibrium.bound.bound import Bound, entropy_terms, systematic
from nonequilibrium.bound.checks import (
    check_count,
    check_examples,
    check_proposal,
    checked,
    noise_generator,
)
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.distributed import mine, total
from nonequilibrium.errors import AdapterError

Visit = tuple[Tensor, Tensor, Tensor]  # indices of images, their steps t, weights that divide


@dataclass(frozen=True)
class Options:
    """How ``bits_per_dim`` works; raises AdapterError, BoundError.

    last_step: "levels" is that of the later papers' tables; "fixed" is the paper's (44), for images
        with uniform noise of one level: log2 σ − K/dims with x^0 = pixel/σ. None: "levels", but
        "fixed" for models of this package.
    levels: of a pixel. block: images at once. proposal: (T + 1,) weights by which t is drawn; None:
        from a short pilot. evaluations: of the model, with a reference.
    """

    replicates: int = 2
    seed: int = 0
    last_step: str | None = None
    levels: int = 256
    block: int = 64
    evaluations: int = 300
    proposal: Tensor | None = None

    def __post_init__(self):
        for name, least in (("replicates", 2), ("block", 1), ("levels", 2), ("evaluations", 20)):
            check_count(name, getattr(self, name), least)
        fits = self.last_step in (None, "levels", "fixed")
        check(fits, "last_step is", repr(self.last_step), "levels or fixed")


def log_level(x: Tensor, p: Normal, levels: int = 256) -> Tensor:
    """log of the probability that ``p`` gives the level at x, scaled to [−1, 1]; nats, float64.

    It is exact. Published programs have an approximation by tanh, whose levels have sum one too
    but whose tails are too light (by a factor of 0.16 at −5σ), and a floor.
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


class Work:
    """Images as a model's x^0, with what is given, and the losses of drawn (image, step) pairs."""

    def __init__(self, model, images, given, options: Options):
        try:
            self.generator = torch.Generator().manual_seed(check_count("seed", options.seed, 0))
        except (ValueError, RuntimeError):
            words = f"seed is {options.seed!r}; it must be a whole number below 2^64"
            raise AdapterError(words) from None
        self.kernel, self.reverse = adapted(model)
        self.options, self.scale = options, getattr(self.reverse, "scale", None)
        level = as_levels(images, options.levels)
        self.fixed = options.last_step == "fixed" or bool(self.scale and not options.last_step)
        fits = self.fixed or self.scale is None
        check(fits, "last_step is", repr("levels"), "fixed, as the model has no step to levels")
        if self.fixed:
            noise = torch.rand(level.shape, generator=self.generator, dtype=torch.float64)
            level = level + noise - 0.5
        half = (options.levels - 1) / 2
        self.centre: float
        self.width: float
        self.centre, self.width = self.scale or (half, half)
        x0 = (level - self.centre) / self.width if self.scale else level * 2 / (half * 2) - 1
        x0 = x0.to(getattr(self.reverse, "device", None) or "cpu", torch.float32)
        self.x0 = check_examples(self.kernel, x0)
        self.offset = math.log2(self.width) if self.fixed else 0.0  # of a density's bits/dim
        self.noise = noise_generator(self.generator, x0.device)
        self.given = {} if given is None else given if isinstance(given, dict) else {"": given}
        self.given = {name: torch.as_tensor(value) for name, value in self.given.items()}
        for value in self.given.values():
            fits = value.dim() > 0 and len(value) == len(x0)
            check(fits, "given has shape", tuple(value.shape), f"one entry per image, {len(x0)}")

    def noisy(self, rows: Tensor, t: Tensor) -> Tensor:
        """A draw of x^t of the images ``rows``."""
        return self.kernel.sample(self.kernel.q_marginal(self.x0[rows], t), self.noise)

    def losses(self, rows: Tensor, t: Tensor, xt: Tensor, reverse=None) -> Tensor:
        """KL_t, or L_0 at t = 1, of the images ``rows`` at x^t, nats of each value of x^0.

        reverse: another one than the model's.
        """
        if reverse is None:
            given = {name: value[rows] for name, value in self.given.items()}
            more = {"given": given.pop("", given)} if self.given else {}
            reverse = partial(self.reverse, **more)
        p = checked(self.kernel, reverse)(xt, t)
        kl = self.kernel.q_posterior(self.x0[rows], xt, t).kl(p)
        if (first := t == 1).any():
            p1, kl = Normal(p.mean[first], p.var.expand_as(p.mean)[first]), kl.double()
            nats = -log_level(self.x0[rows][first], p1, self.options.levels)
            kl[first] = nats.to(kl.device)
        return kl

    def steps(self, draws: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Steps by the proposal, what each is divided by, and their places u in it, (draws, n)."""
        weight, _ = check_proposal(self.kernel, self.options.proposal)
        u = systematic(draws, n, self.generator)
        t = torch.searchsorted(weight.cumsum(0), u, right=True).clamp(2, self.kernel.T)
        return t, weight[t], u

    def visits(self, draws: int | None) -> Iterator[tuple[int, Visit]]:
        """(replicate, visit) of every term: ``draws`` steps per image and replicate, or all."""
        n, block, replicates = len(self.x0), self.options.block, range(self.options.replicates)
        if draws is None:
            steps = torch.arange(2, self.kernel.T + 1)
            # In blocks of about equal size, none of a single image.
            blocks = max(1, min(math.ceil(n / block), n // 2))
            for rows in torch.arange(n).tensor_split(blocks):
                for r in replicates:
                    for t in steps.split(max(1, block // len(rows))):
                        pairs = rows.repeat(len(t)), t.repeat_interleave(len(rows))
                        yield r, (*pairs, torch.ones(len(pairs[0])))
        else:
            for r in replicates:
                for t, weight, _ in zip(*self.steps(draws, n), strict=True):
                    for rows in torch.arange(n).split(block):
                        yield r, (rows, t[rows], weight[rows] * draws)
        for r in replicates if not self.fixed else ():
            for rows in torch.arange(n).split(block):
                yield r, (rows, torch.ones_like(rows), torch.ones(len(rows)))

    @torch.no_grad()
    def bound(self, draws: int | None) -> tuple[Bound, Tensor]:
        """The bound, whose column t = 1 is L_0, and its terms by value of an image, (n, event).

        Processes share the visits, and all draw all noise, so that it does not depend on them.
        """
        r, n = self.options.replicates, len(self.x0)
        kl = torch.zeros(r, n, self.kernel.T + 1, dtype=torch.float64)
        every = torch.zeros(self.x0.shape)
        for number, (r, (rows, t, weight)) in enumerate(self.visits(draws)):
            xt = self.noisy(rows, t)
            if not mine(number):
                continue
            values = self.losses(rows, t, xt)
            kl[r, rows, t] += self.kernel.sum_event(values).double().cpu() / weight
            weight = weight.reshape(-1, *(1,) * self.kernel.event_dim)
            every.index_add_(0, rows, (values.cpu() / weight).float())
        kl, every = total(kl), total(every) / len(kl)
        rest = self.ends(self.kernel, self.x0)
        # By value: the same terms of a chain whose examples are single values.
        single = GaussianKernel(self.kernel.beta[1:], 1)
        ends = self.ends(single, self.x0.reshape(-1, 1)).reshape(every.shape)
        return Bound(kl.mean(0), rest, rest - kl.sum(2)), every - ends.float()

    def ends(self, kernel: GaussianKernel, x0: Tensor) -> Tensor:
        """All that no step loses, nats of each example: −L_T, or both ends of K."""
        if self.fixed:
            return entropy_terms(kernel, x0).double().cpu()
        exact = x0.double().cpu()
        stationary = kernel.stationary(exact.shape, exact.dtype)
        return -kernel.kl(kernel.q_marginal(exact, kernel.T), stationary)

    @torch.no_grad()
    def pilot(self, reverse=None, examples: int = 16, steps: int = 64) -> Tensor:
        """Weights by which t is drawn, (T + 1,): mean squares of KL_t of a few images and steps.

        reverse: as of ``losses``. Whatever the weights are, the estimate is unbiased.
        """
        rows = torch.arange(len(self.x0))[:examples]
        # Even in log t, as early steps cost most.
        grid = np.unique(np.geomspace(2, self.kernel.T, steps).round().astype(int))
        squares = []
        for step in grid:
            t = torch.full_like(rows, int(step))
            kl = self.kernel.sum_event(self.losses(rows, t, self.noisy(rows, t), reverse))
            squares.append(float(kl.double().square().mean()))
        every = np.log(np.arange(2, self.kernel.T + 1))
        between = np.interp(every, np.log(grid), np.log(np.maximum(squares, 1e-30)))
        weights = torch.cat(
            [torch.zeros(2, dtype=torch.float64), torch.from_numpy(np.exp(between))]
        )
        return proposal_from(weights, 0.1)
