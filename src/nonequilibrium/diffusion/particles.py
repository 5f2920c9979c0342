"""Z̃_t counted and not left out: sequential Monte Carlo along the reverse chain (section 2.5).

Normalising every step (22) by itself drops Z̃_t(x^{t+1}), which depends on x^{t+1} unless r_t is
the expectation of r(x^0) given x^t. Here many particles go down the chain together. Each is drawn
by the paper's perturbed kernel p̃ and carries the weight

    w_T = π(x^T) r_T(x^T) / p̃(x^T),    w_{t−1} = w_t · p(x^{t−1}|x^t) r_{t−1}(x^{t−1}) / (
    p̃(x^{t−1}|x^t) r_t(x^t) ).

At t = 0 the weighted particles have the law p(x^0) r(x^0)/Z̃ of the model, whatever r_t was on the
way, as their number grows. The product of mean weights is an estimate of Z̃_0 = E r(x^0) without
bias at any number. Where the weights become unequal the particles are drawn anew by them (Del
Moral, Doucet & Jasra 2006). With one particle the draws are those of ``sampling.sample``.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Kernel, Reverse
from nonequilibrium.diffusion.guides import log_density, log_r
from nonequilibrium.errors import ParameterError

FEWEST = 8  # with fewer particles no warning: their weights are expected to be unequal


class Collapsed(UserWarning):
    """So few particles carry the weight that their law is no posterior."""


@dataclass
class Particles:
    """Weighted samples of x^0 in independent runs of n particles each.

    x: (runs, n, event). log_weight: (runs, n), normalised. log_Z: (runs,) estimates of log E
    r(x^0), nats; their exponentials have no bias. ess: (T + 1, runs) effective sample size at each
    t before resampling. resampled: (T + 1, runs), where it was done.
    ancestors: (runs,) how many of the n starts at t = T have descendants at t = 0.
    """

    x: Tensor
    log_weight: Tensor
    log_Z: Tensor
    ess: Tensor
    resampled: Tensor
    ancestors: Tensor

    def expectation(self, values: Tensor) -> Tensor:
        """Weighted mean over the particles of each run: values (runs, n, ...) to (runs, ...)."""
        weight = torch.exp(self.log_weight)
        return (weight.reshape(weight.shape + (1,) * (values.dim() - 2)) * values).sum(1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """One sample of each run, by the weights, (runs, event)."""
        chosen = torch.multinomial(torch.exp(self.log_weight), 1, generator=generator)[:, 0]
        return self.x[torch.arange(len(self.x)), chosen]


def effective(log_weight: Tensor) -> Tensor:
    """Effective sample size (Σ w)²/Σ w² over the last axis, from 1 to its length."""
    return torch.exp(2 * torch.logsumexp(log_weight, -1) - torch.logsumexp(2 * log_weight, -1))


def log_mean(log_weight: Tensor) -> Tensor:
    """log of the mean weight over the last axis."""
    return torch.logsumexp(log_weight, -1) - math.log(log_weight.shape[-1])


def systematic(weight: Tensor, u: Tensor) -> Tensor:
    """Indices by systematic resampling: weights (runs, n) that sum to one and u (runs,) uniform on
    [0, 1), to (runs, n).

    Particle i is drawn n w_i times on average, and always that number rounded down or up.
    """
    n = weight.shape[-1]
    grid = (torch.arange(n, dtype=weight.dtype) + u[:, None]) / n
    return torch.searchsorted(torch.cumsum(weight, -1), grid, right=True).clamp(max=n - 1)


@torch.no_grad()
def particles(
    kernel: Kernel,
    reverse: Reverse,
    shape: tuple[int, ...],
    generator: torch.Generator,
    r: Factor,
    resample_below: float = 0.5,
    dtype: torch.dtype = torch.float64,
) -> Particles:
    """Weighted samples of p(x^0) r(x^0)/Z̃ under the model, exact as their number grows.

    shape: (runs, n, event). r: a factor with a known r_t (``guides.log_r``); what it holds for each
        example is shaped (runs · n, event), equal within a run, or (event).
    resample_below: particles are drawn anew where the effective sample size is less than this part
    of n; 0 never does. Warns (``Collapsed``) where the weights end up on few particles. Raises
    ParameterError.
    """
    runs, n, *event = shape
    if not (runs >= 1 and n >= 1):
        raise ParameterError(
            f"there are {runs} runs of {n} particles; there must be at least one of each"
        )
    if not 0 <= resample_below <= 1:
        raise ParameterError(f"resample_below is {resample_below}; it must be a number from 0 to 1")
    flat = (runs * n, *event)
    log_r(r, kernel, torch.zeros(flat, dtype=dtype), 0)  # refused before any work
    root = torch.arange(n).repeat(runs, 1)
    log_weight, log_Z = (
        torch.zeros(runs, n, dtype=torch.float64),
        torch.zeros(runs, dtype=torch.float64),
    )
    ess = torch.full((kernel.T + 1, runs), float(n), dtype=torch.float64)
    resampled = torch.zeros(kernel.T + 1, runs, dtype=torch.bool)
    x, value = None, torch.zeros(runs * n, dtype=torch.float64)
    for t in range(kernel.T + 1, 0, -1):
        # From x^t to x^{t−1}; the step from T + 1 is the draw of x^T from π.
        p = (
            kernel.stationary(flat, dtype)
            if x is None
            else kernel.p_edge(x)
            if t == 1
            else reverse(x, t)
        )
        proposal = r(kernel, p, x, t)
        x = kernel.sample(proposal, generator)
        held = None
        if hasattr(proposal, "var") and bool((proposal.var == 0).any()):
            held = (proposal.var == 0).expand_as(
                x
            )  # a delta in r and in p̃ alike: what remains is the density of p
        now = log_r(r, kernel, x, t - 1).double()
        increment = (
            log_density(kernel, x, p).double()
            - log_density(kernel, x, proposal, held).double()
            + now
            - value
        )
        value = now
        log_weight = log_weight + increment.reshape(runs, n)
        ess[t - 1] = effective(log_weight)
        again = ess[t - 1] < resample_below * n
        if t == 1 or not again.any():
            continue
        log_Z = log_Z + torch.where(again, log_mean(log_weight), 0.0)
        u = torch.rand(runs, generator=generator, dtype=torch.float64)
        index = torch.where(
            again[:, None], systematic(torch.softmax(log_weight, 1), u), torch.arange(n)
        )
        log_weight = torch.where(again[:, None], 0.0, log_weight)
        resampled[t - 1], root = again, root.gather(1, index)
        place = (index + n * torch.arange(runs)[:, None]).flatten()
        x, value = x[place], value[place]
    assert x is not None
    log_Z = log_Z + log_mean(log_weight)
    ancestors = torch.tensor([len(each.unique()) for each in root])
    found = Particles(
        x.reshape(shape), torch.log_softmax(log_weight, 1), log_Z, ess, resampled, ancestors
    )
    _warn(found)
    return found


def _warn(found: Particles) -> None:
    """One sentence where weights collapsed, over runs on average: on one particle in twenty, on
    less than two, or on one start.
    """
    n, mean, ancestors = found.x.shape[1], found.ess.mean(1), float(found.ancestors.double().mean())
    worst = int(mean.argmin())
    if n < FEWEST:
        return
    if mean[worst] < max(2.0, n / 20):
        what = f"at t = {worst} the {n} particles are worth {mean[worst]:.1f} equal ones"
    elif ancestors < 2:
        what = f"the {n} particles go back to {ancestors:.1f} of the {n} that started"
    else:
        return
    remedy = "take more particles or an r that looks through the model"
    words = f"{what}: they are no fair sample of the posterior and log Z̃ is most likely too low; {remedy}"
    warnings.warn(words, Collapsed, stacklevel=4)
