"""Sequential Monte Carlo along the reverse chain (Del Moral, Doucet & Jasra 2006), which counts the
Z̃_t that (22) drops: w_{t−1} = w_t p(x^{t−1}|x^t) r_{t−1}(x^{t−1}) / (p̃(x^{t−1}|x^t) r_t(x^t)).
Many particles have the law p(x^0) r(x^0)/Z̃; any number estimates Z̃ without bias.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from nonequilibrium.diffusion.chain import Bernoulli, Factor, Kernel, Normal, Reverse
from nonequilibrium.diffusion.sampling import reverse_chain
from nonequilibrium.errors import ParameterError


class Collapsed(UserWarning):
    """So few particles carry the weight that their law is no posterior."""


@dataclass
class Particles:
    """Weighted samples of x^0 in independent runs of n particles each."""

    x: Tensor  # (runs, n, event)
    log_weight: Tensor  # (runs, n), normalised
    log_Z: Tensor  # (runs,), estimates of log E r(x^0), nats
    ess: Tensor  # (T + 1, runs), effective sample sizes before resampling
    resampled: Tensor  # (T + 1, runs), where that was done
    ancestors: Tensor  # (runs,), numbers of starts at t = T with descendants at t = 0

    def expectation(self, values: Tensor) -> Tensor:
        """Weighted mean over the particles of each run: values (runs, n, ...) to (runs, ...)."""
        weight = torch.exp(self.log_weight)
        return (weight.reshape(weight.shape + (1,) * (values.dim() - 2)) * values).sum(1)

    def sample(self, generator: Generator) -> Tensor:
        """One sample of each run, by the weights, (runs, event)."""
        chosen = torch.multinomial(torch.exp(self.log_weight), 1, generator=generator)[:, 0]
        return self.x[torch.arange(len(self.x)), chosen]


def systematic(weight: Tensor, u: Tensor) -> Tensor:
    """Indices (runs, n) that hold i n·w_i times, rounded up or down; u (runs,) from [0, 1)."""
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

    shape: (runs, n, event). r: a factor with a ``log_r``, of tensors (event), or (runs · n, event)
    and equal within a run. A run is resampled at an effective sample size below that part of n.
    """
    runs, n, *event = shape
    flat = (runs * n, *event)
    if not (runs >= 1 and n >= 1 and 0 <= resample_below <= 1):
        given = f"there are {runs} runs of {n} particles, resampled below {resample_below}"
        raise ParameterError(f"{given}; it must be at least one of each, and a part from 0 to 1")
    if not hasattr(r, "log_r"):
        raise ParameterError(f"log r_t of {type(r).__name__} is not known; use `Shift`")
    r.log_r(kernel, torch.zeros(flat, dtype=dtype), 0)  # refused before any work
    root = torch.arange(n).repeat(runs, 1)
    log_weight, log_Z = torch.zeros(runs, n).double(), torch.zeros(runs).double()
    ess, value = torch.zeros(kernel.T + 1, runs).double(), torch.zeros(runs * n).double()
    resampled = ess.bool()
    for t, x, p, p_tilde in reverse_chain(kernel, reverse, flat, generator, r, dtype):
        now = r.log_r(kernel, x, t).double()
        increment = kernel.log_prob(x, p).double() - _log_drawn(kernel, x, p_tilde) + now - value
        value = now
        log_weight = log_weight + increment.reshape(runs, n)
        ess[t] = torch.exp(2 * log_weight.logsumexp(1) - (2 * log_weight).logsumexp(1))
        again = ess[t] < resample_below * n
        if t == 0 or not again.any():
            continue
        log_Z = log_Z + torch.where(again, log_weight.logsumexp(1) - math.log(n), 0.0)
        u = torch.rand(runs, generator=generator, dtype=torch.float64)
        index = systematic(torch.softmax(log_weight, 1), u)
        index = torch.where(again[:, None], index, torch.arange(n))
        log_weight = torch.where(again[:, None], 0.0, log_weight)
        resampled[t], root = again, root.gather(1, index)
        place = (index + n * torch.arange(runs)[:, None]).flatten()
        value = value[place]
        x.copy_(x[place])  # in place: the chain goes on from these
    ancestors = torch.tensor([len(roots.unique()) for roots in root])
    (worth, worst), starts = map(float, ess.mean(1).min(0)), float(ancestors.double().mean())
    if n >= 8 and (worth < max(2.0, n / 20) or starts < 2):  # fewer have unequal weights anyway
        what = f"are worth {worth:.1f} at t = {worst:.0f} and go back to {starts:.1f} of {n} starts"
        advice = "take more, or an r that looks through the model"
        warnings.warn(f"the {n} particles {what}; {advice}", Collapsed, stacklevel=3)
    log_Z = log_Z + (log_weight.logsumexp(1) - math.log(n))
    log_weight = torch.log_softmax(log_weight, 1)
    return Particles(x.reshape(shape), log_weight, log_Z, ess, resampled, ancestors)


def _log_drawn(kernel: Kernel, x: Tensor, p_tilde: Any) -> Tensor:
    """log p̃(x), (n,) nats, but for coordinates on which it and r are deltas: p alone is left."""
    if isinstance(p_tilde, Bernoulli):
        return kernel.log_prob(x, p_tilde).double()
    held = p_tilde.var == 0
    terms = Normal(p_tilde.mean, torch.where(held, 1.0, p_tilde.var)).log_prob(x)
    return kernel.sum_event(torch.where(held, 0.0, terms)).double()
