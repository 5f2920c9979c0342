"""Thinned chains, which keep the levels t_1 < … < t_n = T of a longer one. What a step costs the
bound does not depend on the others: the best are a shortest path (Watson et al. 2021, 2106.03802).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.errors import ParameterError


def even(T: int, n: int) -> list[int]:
    """n of the steps 1..T, evenly spaced, with 1 and T among them."""
    if not 2 <= n <= T:
        raise ParameterError(f"the number of steps is {n}; of T = {T} a chain can keep 2 to {T}")
    return torch.linspace(1, T, n, dtype=torch.float64).round().long().tolist()


def cheapest(cost: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The least cost of every level in exactly n = 0..most steps, and the level before it.

    cost: of the step from s to t > s, (T + 1, T + 1) float64. Returns two (most + 1, T + 1).
    """
    T = len(cost) - 1
    allowed = torch.where(torch.ones_like(cost, dtype=torch.bool).triu(1), cost, math.inf)
    least = torch.full((most + 1, T + 1), math.inf, dtype=torch.float64)
    before = torch.zeros(most + 1, T + 1, dtype=torch.int64)
    least[0, 0] = 0
    for n in range(1, most + 1):  # n steps to t are n − 1 steps to some s and one more
        least[n], before[n] = (least[n - 1][:, None] + allowed).min(0)
    return least, before


def path(before: Tensor, n: int) -> list[int]:
    """The levels t_1 < … < t_n = T of the cheapest path in n steps, from ``cheapest``."""
    levels = [before.shape[1] - 1]
    for step in range(n, 1, -1):
        levels.append(int(before[step, levels[-1]]))
    return levels[::-1]


def thin(
    kernel: GaussianKernel, reverse: Reverse[Normal], kept: list[int]
) -> tuple[GaussianKernel, Reverse[Normal]]:
    """The chain that keeps the noise levels ``kept``, with the same network: (kernel, reverse).

    A longer step has the mean of q(x^{t−1}|x^t, x^0) at the model's mean of x^0, and q's variance
    plus the share of the variance of x^0.
    """
    if len(kept) < 2 or kept[-1] != kernel.T or any(s >= t for s, t in pairwise([0, *kept])):
        rule = f"they must be at least two, rise from 1 or more, and end at T = {kernel.T}"
        raise ParameterError(f"the steps to keep are {kept}; {rule}")
    original = torch.tensor([0, *kept])  # t of the full chain by t of the thin one
    beta = -torch.expm1(torch.diff(kernel.log_alpha_bar[original]))
    thinned = GaussianKernel(beta, kernel.event_dim)

    def reverse_of_thinned(xt: Tensor, t: Tensor | int, **given) -> Normal:
        x0 = kernel.x0_given(reverse(xt, original[t], **given), xt, original[t])
        q = thinned.q_posterior(x0.mean, xt, t)
        return Normal(q.mean, q.var + thinned.at(thinned.posterior_on_x0, t, xt) ** 2 * x0.var)

    return thinned, reverse_of_thinned
