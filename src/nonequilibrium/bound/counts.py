"""The heartbeat's chain by its counts of ones, exact for any T: H_q(X^t), and log p(x^0) of the
best reverse chain.

The forward chain and its best reverse kernel treat all bits of a residue class alike, and all
classes too. So x^t matters only by how many ones each of the five classes has: 5^5 states, and 126
if their order is left out.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nonequilibrium.bound.optimum import HeartbeatOptimum
from nonequilibrium.diffusion.kernels import BinomialKernel

if TYPE_CHECKING:  # the law comes as an argument
    from nonequilibrium.data.toys import Heartbeat


def heartbeat_entropy(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """H_q(X^t) of heartbeats for t = 0..T, nats per sequence, (T + 1,); a finite sum over 5^5
    states.
    """
    per_class = law.dim // law.period
    states = torch.cartesian_prod(*[torch.arange(per_class + 1)] * law.period)  # ones in each class
    ways = (
        torch.tensor([float(math.comb(per_class, ones)) for ones in range(per_class + 1)])[states]
        .double()
        .prod(1)
    )
    states = states.double()
    entropy = torch.full((kernel.T + 1,), math.log(law.period), dtype=torch.float64)
    for t in range(1, kernel.T + 1):
        kept, lost = float(kernel.alpha_bar[t]), float(kernel.one_minus_alpha_bar[t])
        zero, one = kernel.pi * lost, kept + kernel.pi * lost  # rates of ones where x^0 is 0 and 1
        outside = states * math.log(zero) + (per_class - states) * math.log1p(-zero)
        inside = states * math.log(one) + (per_class - states) * math.log((1 - kernel.pi) * lost)
        log_q = torch.logsumexp(outside.sum(1, keepdim=True) + inside - outside, 1) - math.log(
            law.period
        )
        entropy[t] = -(ways * torch.exp(log_q) * log_q).sum()
    return entropy


def heartbeat_reverse_entropy(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """H_q(X^{t−1}|X^t) of heartbeats for t = 0..T, nats per sequence, (T + 1,), NaN at t < 2; what
    (24) brackets.

    By the chain rule it is H_q(X^t|X^{t−1}) + H_q(X^{t−1}) − H_q(X^t).
    """
    entropy, x0 = heartbeat_entropy(kernel, law), law.templates()[:1]
    result = torch.full((kernel.T + 1,), math.nan, dtype=torch.float64)
    for t in range(2, kernel.T + 1):
        result[t] = kernel.step_entropy(x0, t) + entropy[t - 1] - entropy[t]
    return result


def counts_pmf(rate: Tensor) -> Tensor:
    """Distribution of the number of ones among independent bits: rates (..., n) to probabilities
    (..., n + 1).
    """
    pmf = torch.ones_like(rate[..., :1])
    for r in rate.unbind(-1):
        stay, rise = pmf * (1 - r)[..., None], pmf * r[..., None]
        pmf = torch.cat([stay, torch.zeros_like(r)[..., None]], -1)
        pmf[..., 1:] += rise
    return pmf


@torch.no_grad()
def heartbeat_log_p(kernel: BinomialKernel, law: Heartbeat, block: int = 50) -> float:
    """log p(x^0) of a heartbeat under the best reverse chain, nats; equal for all five, exact (6).

    The sum over trajectories goes step by step from π: each step sends the 126 states of ``counts``
    to 5^5, and by symmetry these are 126 again.
    """
    per_class, period = law.dim // law.period, law.period
    kinds = list(itertools.combinations_with_replacement(range(per_class + 1), period))
    place = {kind: i for i, kind in enumerate(kinds)}
    every = itertools.product(range(per_class + 1), repeat=period)
    to_kind = torch.tensor([place[tuple(sorted(state))] for state in every])
    bins = torch.arange(law.dim)
    xs = (
        bins // period < torch.tensor(kinds)[:, bins % period]
    ).double()  # in each class the ones come first
    optimum = HeartbeatOptimum(kernel, law)

    def stepped(mass: Tensor, rate: Tensor) -> Tensor:
        """From the probabilities of 126 states and the rates of the bits that follow on each to
        those of the next 126.
        """
        joint = mass[:, None]
        for pmf in counts_pmf(rate.reshape(-1, per_class, period).transpose(1, 2)).unbind(1):
            joint = (joint[:, :, None] * pmf[:, None]).flatten(1)
        return torch.zeros_like(mass).index_add(0, to_kind, joint.sum(0))

    start = counts_pmf(torch.full((per_class,), kernel.pi, dtype=torch.float64))
    joint = torch.ones(1, dtype=torch.float64)
    for _ in range(period):
        joint = (joint[:, None] * start).flatten()
    mass = torch.zeros(len(kinds), dtype=torch.float64).index_add(0, to_kind, joint)
    for ts in torch.arange(kernel.T, 1, -1).split(block):
        rates = optimum(xs.expand(len(ts), *xs.shape), ts).rate
        for rate in rates:
            mass = stepped(mass, rate)
    mass = stepped(mass, kernel.p_edge(xs).rate)
    return math.log(float(mass[place[(0,) * (period - 1) + (per_class,)]]) / period)
