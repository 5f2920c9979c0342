"""Thinned chains, which keep the levels t_1 < … < t_n = T of a longer one. What a step costs the
bound does not depend on the others: the best are a shortest path (Watson et al. 2021, 2106.03802).
"""

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


def cheapest(cost: Tensor, steps: list[int]) -> dict[int, tuple[list[int], float]]:
    """By number n of ``steps``: the levels t_1 < … < t_n = T of least cost, exact, and this cost;
    cost: of the step from s to t, (T + 1, T + 1) float64, infinite where s ≥ t.
    """
    least, before, best = torch.full((len(cost),), math.inf).double(), [], {}
    least[0] = 0
    for n in range(1, max(steps) + 1):  # n steps to t are n − 1 steps to some s and one more
        least, last = (least[:, None] + cost).min(0)
        before.append(last)
        levels = [len(cost) - 1]
        for last in before[:0:-1]:
            levels.append(int(last[levels[-1]]))
        best[n] = levels[::-1], float(least[-1])
    return {n: best[n] for n in steps}


def thin(
    kernel: GaussianKernel, reverse: Reverse[Normal], kept: list[int]
) -> tuple[GaussianKernel, Reverse[Normal]]:
    """The chain that keeps the levels ``kept``, with the same network: (kernel, reverse). A step
    has the mean of q(x^{t−1}|x^t, x^0) at the model's mean of x^0, and its variance adds to q's.
    """
    if len(kept) < 2 or kept[-1] != kernel.T or any(s >= t for s, t in pairwise([0, *kept])):
        rule = f"two or more must rise from 1 or more to T = {kernel.T}"
        raise ParameterError(f"the steps to keep are {kept}; {rule}")
    original = torch.tensor([0, *kept])  # t of the full chain by t of the thin one
    beta = -torch.diff(kernel.log_alpha_bar[original]).expm1().clamp(2**-53 - 1)
    thinned = GaussianKernel(beta, kernel.event_dim)

    def reverse_of_thinned(xt: Tensor, t: Tensor | int, **given) -> Normal:
        x0 = kernel.x0_given(reverse(xt, original[t], **given), xt, original[t])
        q = thinned.q_posterior(x0.mean, xt, t)
        return Normal(q.mean, q.var + thinned.at(thinned.posterior_on_x0, t, xt) ** 2 * x0.var)

    return thinned, reverse_of_thinned
