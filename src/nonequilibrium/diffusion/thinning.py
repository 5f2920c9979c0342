"""Thinned chains: which of the T noise levels to keep, and the chain that keeps them.

A thinned chain keeps the noise levels t_1 < … < t_n = T of a longer one, and its steps lead from
one to the next. What each step costs the bound does not depend on the other steps, so that the best
n levels are a shortest path from 0 to T in exactly n steps (Watson et al. 2021, arXiv:2106.03802,
found the same for models with fixed variances).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.errors import ParameterError


def even(T: int, n: int) -> list[int]:
    """n of the steps 1..T with 1 and T among them, evenly spaced. Raises ParameterError unless n is
    from 2 to T.
    """
    if not 2 <= n <= T:
        raise ParameterError(f"the number of steps is {n}; of T = {T} a chain can keep 2 to {T}")
    return torch.linspace(1, T, n, dtype=torch.float64).round().long().tolist()


def cheapest(cost: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The least cost of going from 0 to every level in exactly n = 0..most steps, and the level
    before the last, exact.

    cost: (T + 1, T + 1) float64; cost[s, t] is that of the step between s and t, counted for s < t;
    infinite where there is none. Returns (most + 1, T + 1) float64 and int64. Dynamic programming:
    n steps to t are n − 1 steps to some s and one more.
    """
    T = len(cost) - 1
    allowed = torch.where(torch.ones_like(cost, dtype=torch.bool).triu(1), cost, math.inf)
    least = torch.full((most + 1, T + 1), math.inf, dtype=torch.float64)
    before = torch.zeros(most + 1, T + 1, dtype=torch.int64)
    least[0, 0] = 0
    for n in range(1, most + 1):
        least[n], before[n] = (least[n - 1][:, None] + allowed).min(0)
    return least, before


def path(before: Tensor, n: int) -> list[int]:
    """The levels t_1 < … < t_n = T of the cheapest path in n steps. before: as ``cheapest`` gives
    it.
    """
    levels, t = [], before.shape[1] - 1
    for step in range(n, 0, -1):
        levels.append(t)
        t = int(before[step, t])
    return levels[::-1]


def thin(
    kernel: GaussianKernel, reverse: Reverse[Normal], kept: list[int]
) -> tuple[GaussianKernel, Reverse[Normal]]:
    """The chain that keeps the noise levels ``kept``, with the same network: (kernel, reverse).

    p(x^{t−1}|x^t) of the full chain says what the network knows of x^0, a mean m and a variance v,
    because q(x^{t−1}|x^t, x^0) is linear in x^0. A longer step then has the mean of q at x^0 = m,
    and q's variance plus the share that comes of v, which short steps hardly need and long ones do.
    kept: rising steps of the full chain, at least two, the last one T. Raises ParameterError for
    other steps.
    """
    rises = len(kept) >= 2 and kept[0] >= 1 and kept[-1] == kernel.T
    if not (rises and all(s < t for s, t in zip(kept, kept[1:], strict=False))):
        raise ParameterError(
            f"the steps to keep are {kept}; they must be at least two, rise from 1 or more, and end at T = {kernel.T}"
        )
    original = torch.tensor([0, *kept])  # t of the full chain by t of the thin one
    thinned = GaussianKernel(
        -torch.expm1(torch.diff(kernel.log_alpha_bar[original])), kernel.event_dim
    )

    def reverse_of_thinned(xt: Tensor, t: Tensor | int) -> Normal:
        step = original[t]
        x0 = kernel.x0_given(reverse(xt, step), xt, step)
        q = thinned.q_posterior(x0.mean, xt, t)
        return Normal(q.mean, q.var + thinned.at(thinned.posterior_on_x0, t, xt) ** 2 * x0.var)

    return thinned, reverse_of_thinned
