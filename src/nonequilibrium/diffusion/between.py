"""r that looks through the model only at noise neither so large that r_t hardly depends on x^t nor so
small that x^t itself shows the observation, which saves about half of the derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Normal, Reverse
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import Inpaint

WITHIN = 2.0  # of 1, 1.5, 2, 3 and no bound, that of the least errors on training images set aside


@dataclass
class Between:
    """``through`` where lowest ≤ √((1−ᾱ_t)/ᾱ_t) ≤ highest, else ``outside``; for ``Through.skip``.

    outside: a factor of p(x^{t−1}|x^t), such as an annealed ``Inpaint``, or a cheaper ``Through``.
    limits: the range of data, at which a mean of x^0 is held that a shift, a step of first order,
    takes beyond; in a chain of few steps it would never come back.
    """

    through: Through
    outside: Factor
    lowest: float = 0.05
    highest: float = 10.0
    limits: tuple[float, float] | None = None

    def __call__(self, kernel: GaussianKernel, p: Any, xt: Tensor | None, t: int) -> Normal:
        if xt is None:
            return self.outside(kernel, p, xt, t)
        noise = (kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]) ** 0.5
        if t == 1 or self.lowest <= noise <= self.highest:
            shifted = self.through(kernel, p, xt, t)
            if t == 1 or self.limits is None:
                return shifted
            x0 = kernel.x0_given(shifted, xt, t).mean.clamp(*self.limits)
            return Normal(kernel.q_posterior(x0, xt, t).mean, shifted.var)
        given = None if isinstance(self.outside, Through) else self.through.reverse(xt, t)
        return self.outside(kernel, given, xt, t)


def filled_between(
    reverse: Reverse[Normal], x0: Tensor, known: Tensor, solve: int, limits: tuple[float, float]
) -> Between:
    """How a hole in x0 (n, ...) is filled in: through the model, and elsewhere by replacement.

    known: bool, broadcastable to x0; known pixels come out as given. solve: of ``Through``.
    """
    through = Through(reverse, Mask(known), torch.where(known, x0, 0.0), 0.0, solve, WITHIN)
    return Between(through, Inpaint(x0, known, annealed=True), limits=limits)
