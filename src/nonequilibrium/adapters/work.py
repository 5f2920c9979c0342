"""The losses of images at drawn steps, whose sum bounds the probability of their grey levels:

    L_T + Σ_{t=2..T} KL( q(x^{t−1}|x^t,x^0) ‖ p(x^{t−1}|x^t) ) + L_0,

with L_T = KL( q(x^T|x^0) ‖ π ) and L_0 = −log P(x^0|x^1), of the part of p(x^0|x^1) nearest to the
level (Ho et al. 2020). The paper's K fixes the last step (44) and bounds a density of noisy pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.adapters.checks import as_levels, check, tensor
from nonequilibrium.adapters.libraries import adapted
from nonequilibrium.bound import checks
from nonequilibrium.bound.bound import Bound, entropy_terms, systematic
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.distributed import mine, total

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
            checks.check_count(name, getattr(self, name), least)
        fits = self.last_step in (None, "levels", "fixed")
        check(fits, "last_step is", repr(self.last_step), "levels or fixed")


def log_level(x: Tensor, p: Normal, levels: int = 256) -> Tensor:
    """log of the probability that ``p`` gives the level at x, scaled to [−1, 1]; nats, float64:
    exact, where published programs approximate by tanh, whose levels have sum one too, but whose
    tails are too light (by a factor of 0.16 at −5σ) and have a floor.
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


class Work:
    """Images as a model's x^0, with what is given, and the losses of drawn (image, step) pairs."""

    def __init__(self, model, images, given, options: Options):
        seed = options.seed
        fits = isinstance(seed, int | np.integer) and 0 <= seed < 2**64
        check(fits, "seed is", repr(seed), "a whole number below 2^64")
        self.generator = torch.Generator().manual_seed(int(seed))
        self.kernel, self.reverse = adapted(model)
        own = hasattr(self.reverse, "scale")
        self.options, self.fixed = options, options.last_step == "fixed" or own
        fits = not own or options.last_step != "levels"
        check(fits, "last_step is", "'levels'", "'fixed' for a model without a step to levels")
        x0, half = as_levels(images, options.levels), (options.levels - 1) / 2
        if self.fixed:
            x0 = x0 + torch.rand(x0.shape, generator=self.generator, dtype=torch.float64) - 0.5
        self.scale: tuple[float, float] = getattr(self.reverse, "scale", None) or (half, half)
        x0 = (x0 - self.scale[0]) / self.scale[1]
        x0 = x0.to(getattr(self.reverse, "device", None) or "cpu", torch.float32)
        self.x0 = checks.check_examples(self.kernel, x0)
        self.offset = math.log2(self.scale[1]) if self.fixed else 0.0  # of a density's bits/dim
        self.noise = checks.noise_generator(self.generator, x0.device)
        given = {} if given is None else given if isinstance(given, dict) else {"": given}
        self.given = {name: tensor(value) for name, value in given.items()}
        for value in self.given.values():
            allowed, shape = f"numbers, one entry per image, {len(x0)}", tuple(value.shape)
            check(shape[:1] == (len(x0),), "given has shape", shape, allowed)

    def noisy(self, rows: Tensor, t: Tensor) -> Tensor:
        """A draw of x^t of the images ``rows``."""
        return self.kernel.sample(self.kernel.q_marginal(self.x0[rows], t), self.noise)

    def losses(self, rows: Tensor, t: Tensor, xt: Tensor, reverse=None) -> Tensor:
        """KL_t, or L_0 where all t are 1, of the images ``rows`` at x^t, nats of each value of x^0,
        by another ``reverse`` than the model's if one is given.
        """
        if reverse is None:
            given = {name: value[rows] for name, value in self.given.items()}
            more = {"given": given.pop("", given)} if self.given else {}
            reverse = partial(self.reverse, **more)
        p = checks.checked(self.kernel, reverse)(xt, t)
        if (t == 1).all():
            return -log_level(self.x0[rows], p, self.options.levels)
        return self.kernel.q_posterior(self.x0[rows], xt, t).kl(p)

    def steps(self, draws: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Steps by the proposal, what each is divided by, and their places u in it, (draws, n)."""
        weight, _ = checks.check_proposal(self.kernel, self.options.proposal)
        u = systematic(draws, n, self.generator)
        t = torch.searchsorted(weight.cumsum(0), u, right=True).clamp(2, self.kernel.T)
        return t, weight[t], u

    def visits(self, draws: int | None) -> Iterator[tuple[int, Visit]]:
        """(replicate, visit) of every term: ``draws`` steps per image and replicate, or all."""
        T, images, block = self.kernel.T, torch.arange(len(self.x0)), self.options.block
        one = torch.ones_like(images)
        for r in range(self.options.replicates):
            if draws is None:
                t = torch.arange(2, T + 1).repeat_interleave(len(images))
                visits = [(images.repeat(T - 1), t, one.repeat(T - 1))]
            else:
                steps = zip(*self.steps(draws, len(images)), strict=True)
                visits = [(images, t, weight * draws) for t, weight, _ in steps]
            for visit in visits:
                for part in zip(*(x.split(block) for x in visit), strict=True):
                    yield r, part
        for r in range(0 if self.fixed else self.options.replicates):
            yield from ((r, (rows, one[rows], one[rows])) for rows in images.split(block))

    @torch.no_grad()
    def bound(self, draws: int | None) -> tuple[Bound, Tensor]:
        """The bound, whose column t = 1 is L_0, and its terms by value of an image, (n, event)."""
        shape = self.options.replicates, len(self.x0), self.kernel.T + 1
        kl, every = torch.zeros(shape, dtype=torch.float64), torch.zeros(self.x0.shape)
        for number, (r, (rows, t, weight)) in enumerate(self.visits(draws)):
            xt = self.noisy(rows, t)
            if not mine(number):
                continue
            values = self.losses(rows, t, xt)
            kl[r, rows, t] += self.kernel.sum_event(values).double().cpu() / weight
            weight = weight.reshape(-1, *(1,) * self.kernel.event_dim)
            every.index_add_(0, rows, (values.cpu() / weight).float())
        kl, every, ends = total(kl), total(every) / len(kl), self.ends()
        rest = self.kernel.sum_event(ends)
        return Bound(kl.mean(0), rest, rest - kl.sum(2)), every - ends

    def ends(self) -> Tensor:
        """All that no step loses, nats of each value of x^0: −L_T, or both ends of K."""
        x0, T = self.x0.double().cpu(), self.kernel.T
        if self.fixed:  # of a chain whose examples are single values
            single = GaussianKernel(self.kernel.beta[1:], 1)
            return entropy_terms(single, x0.reshape(-1, 1)).reshape(x0.shape)
        prior = self.kernel.stationary(x0.shape, x0.dtype)
        return -self.kernel.q_marginal(x0, T).kl(prior)

    @torch.no_grad()
    def pilot(self, reverse=None, examples: int = 16, steps: int = 64) -> Tensor:
        """Weights by which t is drawn, (T + 1,), by KL_t of a few images and steps; reverse: as of
        ``losses``.
        """
        rows = torch.arange(len(self.x0))[:examples]
        # Even in log t, as early steps cost most.
        grid = np.unique(np.geomspace(2, self.kernel.T, steps).round().astype(int))
        squares = []
        for t in torch.from_numpy(grid)[:, None].expand(-1, len(rows)):
            kl = self.kernel.sum_event(self.losses(rows, t, self.noisy(rows, t), reverse))
            squares.append(float(kl.double().square().mean()))
        every = np.log(np.arange(2, self.kernel.T + 1))
        between = np.interp(every, np.log(grid), np.log(np.maximum(squares, 1e-30)))
        return proposal_from(torch.from_numpy(np.append([0, 0], np.exp(between))), 0.1)
