"""The heartbeat's chain by its counts of ones, exact for any T.

Forward chain and best reverse kernel treat alike all bits of a residue class, and all classes. So
x^t matters only by the number of ones in each of the five classes: 5^5 states, 126 up to order.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from nonequilibrium.bound.optimum import HeartbeatOptimum, with_counts
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.kernels import BinomialKernel


def heartbeat_entropy(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """H_q(X^t) of heartbeats for t = 0..T, (T + 1,) nats; a finite sum over 5^5 states."""
    size, period = law.dim // law.period, law.period
    ones = torch.cartesian_prod(*[torch.arange(size + 1)] * period)  # in each class
    ways = torch.tensor([float(math.comb(size, k)) for k in range(size + 1)])[ones].double().prod(1)
    ones = ones.double()
    entropy = torch.full((kernel.T + 1,), math.log(period), dtype=torch.float64)
    for t in range(1, kernel.T + 1):
        kept, lost = float(kernel.alpha_bar[t]), float(kernel.one_minus_alpha_bar[t])
        low, high = kernel.pi * lost, kept + kernel.pi * lost  # rates of ones where x^0 is 0 and 1
        outside = ones * math.log(low) + (size - ones) * math.log1p(-low)
        inside = ones * math.log(high) + (size - ones) * math.log((1 - kernel.pi) * lost)
        by_class = outside.sum(1, keepdim=True) + inside - outside
        log_q = torch.logsumexp(by_class, 1) - math.log(period)
        entropy[t] = -(ways * torch.exp(log_q) * log_q).sum()
    return entropy


def heartbeat_reverse_entropy(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """H_q(X^{t−1}|X^t) of heartbeats, which (24) brackets: (T + 1,) nats, NaN at t < 2.

    By the chain rule it is H_q(X^t|X^{t−1}) + H_q(X^{t−1}) − H_q(X^t).
    """
    entropy, x0 = heartbeat_entropy(kernel, law), law.templates()[:1]
    result = torch.full((kernel.T + 1,), math.nan, dtype=torch.float64)
    for t in range(2, kernel.T + 1):
        result[t] = kernel.step_entropy(x0, t) + entropy[t - 1] - entropy[t]
    return result


def counts_pmf(rate: Tensor) -> Tensor:
    """Law of the number of ones among independent bits: rates (..., n) to (..., n + 1)."""
    pmf = torch.ones_like(rate[..., :1])
    for r in rate.unbind(-1):
        stay, rise = pmf * (1 - r)[..., None], pmf * r[..., None]
        pmf = torch.cat([stay, torch.zeros_like(r)[..., None]], -1)
        pmf[..., 1:] += rise
    return pmf


@torch.no_grad()
def heartbeat_log_p(kernel: BinomialKernel, law: Heartbeat, block: int = 50) -> float:
    """log p(x^0) (6) of a heartbeat under the best reverse chain, nats; exact, equal for all five.

    The sum over trajectories runs step by step from π: each step leads from the 126 ordered states
    to 5^5, which by symmetry are the 126 again.
    """
    size, period = law.dim // law.period, law.period
    kinds = list(itertools.combinations_with_replacement(range(size + 1), period))
    place = {kind: i for i, kind in enumerate(kinds)}
    every = itertools.product(range(size + 1), repeat=period)
    to_kind = torch.tensor([place[tuple(sorted(state))] for state in every])
    xs, optimum = with_counts(law, torch.tensor(kinds)), HeartbeatOptimum(kernel, law)

    def stepped(mass: Tensor, rate: Tensor) -> Tensor:
        """From the probabilities of the 126 states and the rates of the next bits on each."""
        joint = mass[:, None]
        for pmf in counts_pmf(rate.reshape(-1, size, period).transpose(1, 2)).unbind(1):
            joint = (joint[:, :, None] * pmf[:, None]).flatten(1)
        return torch.zeros(len(kinds), dtype=torch.float64).index_add(0, to_kind, joint.sum(0))

    at_pi = torch.full((1, law.dim), kernel.pi, dtype=torch.float64)
    mass = stepped(torch.ones(1, dtype=torch.float64), at_pi)
    for steps in torch.arange(kernel.T, 1, -1).split(block):
        for rate in optimum(xs.expand(len(steps), *xs.shape), steps).rate:
            mass = stepped(mass, rate)
    mass = stepped(mass, kernel.p_edge(xs).rate)
    return math.log(float(mass[place[(0,) * (period - 1) + (size,)]]) / period)
