"""Z̃_t counted, not left out: sequential Monte Carlo along the reverse chain (section 2.5).

Normalising every step (22) by itself drops Z̃_t(x^{t+1}), which depends on x^{t+1} unless r_t is the
expectation of r(x^0) given x^t. Here particles are drawn by the perturbed kernel p̃ with weights

    w_T = π(x^T) r_T(x^T) / p̃(x^T),
    w_{t−1} = w_t · p(x^{t−1}|x^t) r_{t−1}(x^{t−1}) / (p̃(x^{t−1}|x^t) r_t(x^t)).

At t = 0 the weighted particles have the law p(x^0) r(x^0)/Z̃ in the limit of many, for any r_t, and
the product of mean weights is an estimate of Z̃_0 = E r(x^0) without bias at any number. Where the
weights become unequal the particles are resampled by them (Del Moral, Doucet & Jasra 2006).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from nonequilibrium.diffusion.chain import Factor, Kernel, Normal, Reverse
from nonequilibrium.diffusion.guides import log_r
from nonequilibrium.diffusion.kernels import log_normal
from nonequilibrium.diffusion.sampling import reverse_chain
from nonequilibrium.errors import ParameterError

FEWEST = 8  # no warning with fewer particles, whose weights are expected to be unequal


class Collapsed(UserWarning):
    """So few particles carry the weight that their law is no posterior."""


@dataclass
class Particles:
    """Weighted samples of x^0 in independent runs of n particles each.

    x: (runs, n, event). log_weight: (runs, n), normalised. log_Z: (runs,) estimates of log E
    r(x^0), nats; their exponentials have no bias. ess: (T + 1, runs) effective sample size before
    resampling. resampled: (T + 1, runs) bool.
    ancestors: (runs,) the number of starts at t = T that have descendants at t = 0.
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

    def sample(self, generator: Generator) -> Tensor:
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
    """Indices (runs, n) by systematic resampling; u (runs,) uniform on [0, 1).

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
    generator: Generator,
    r: Factor,
    resample_below: float = 0.5,
    dtype: torch.dtype = torch.float64,
) -> Particles:
    """Weighted samples of p(x^0) r(x^0)/Z̃ under the model, exact as their number grows.

    shape: (runs, n, event). r: a factor with a ``log_r``, whose tensors are shaped (runs · n, event),
    equal within a run, or (event). resample_below: the effective sample size, as a part of n, below
    which a run is resampled. Warns ``Collapsed`` where few particles carry the weight.
    """
    runs, n, *event = shape
    if not (runs >= 1 and n >= 1):
        raise ParameterError(f"there are {runs} runs of {n} particles; both must be at least one")
    if not 0 <= resample_below <= 1:
        raise ParameterError(f"resample_below is {resample_below}; it must be a number from 0 to 1")
    flat = (runs * n, *event)
    log_r(r, kernel, torch.zeros(flat, dtype=dtype), 0)  # refuses an unknown r before any work
    root = torch.arange(n).repeat(runs, 1)
    log_weight = torch.zeros(runs, n, dtype=torch.float64)
    log_Z = torch.zeros(runs, dtype=torch.float64)
    ess = torch.full((kernel.T + 1, runs), float(n), dtype=torch.float64)
    resampled = torch.zeros(kernel.T + 1, runs, dtype=torch.bool)
    value = torch.zeros(runs * n, dtype=torch.float64)
    for t, x, p, p_tilde in reverse_chain(kernel, reverse, flat, generator, r, dtype):
        now = log_r(r, kernel, x, t).double()
        increment = kernel.log_prob(x, p).double() - _log_drawn(kernel, x, p_tilde) + now - value
        value = now
        log_weight = log_weight + increment.reshape(runs, n)
        ess[t] = effective(log_weight)
        again = ess[t] < resample_below * n
        if t == 0 or not again.any():
            continue
        log_Z = log_Z + torch.where(again, log_mean(log_weight), 0.0)
        u = torch.rand(runs, generator=generator, dtype=torch.float64)
        chosen = systematic(torch.softmax(log_weight, 1), u)
        index = torch.where(again[:, None], chosen, torch.arange(n))
        log_weight = torch.where(again[:, None], 0.0, log_weight)
        resampled[t], root = again, root.gather(1, index)
        place = (index + n * torch.arange(runs)[:, None]).flatten()
        value = value[place]
        x.copy_(x[place])  # in place: the chain goes on from these
    ancestors = torch.tensor([len(roots.unique()) for roots in root])
    log_Z, log_weight = log_Z + log_mean(log_weight), torch.log_softmax(log_weight, 1)
    result = Particles(x.reshape(shape), log_weight, log_Z, ess, resampled, ancestors)
    _warn(result)
    return result


def _log_drawn(kernel: Kernel, x: Tensor, p_tilde: Any) -> Tensor:
    """log p̃(x), (n,) nats, without coordinates on which it is a delta, as r is: p alone is left."""
    held = p_tilde.var == 0 if isinstance(p_tilde, Normal) else None
    if held is None or not held.any():
        return kernel.log_prob(x, p_tilde).double()
    terms = log_normal(x, p_tilde.mean, torch.where(held, 1.0, p_tilde.var))
    return kernel.sum_event(torch.where(held, 0.0, terms)).double()


def _warn(result: Particles) -> None:
    """One sentence where, over runs on average, weights collapsed on few particles or one start."""
    n, mean, ancestors = result.x.shape[1], result.ess.mean(1), float(result.ancestors.double().mean())
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
    effect = "they are no fair sample of the posterior and log Z̃ is most likely too low"
    warnings.warn(f"{what}: {effect}; {remedy}", Collapsed, stacklevel=4)
