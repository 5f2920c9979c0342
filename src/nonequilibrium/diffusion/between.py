"""r that looks through the model only at noise that is neither too large nor too small.

Where x^t is almost pure noise, r_t hardly depends on it; where it is almost x^0, the observation is
seen in x^t itself. Outside of this range, about half of the steps, a cheaper factor does the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Normal, Reverse
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import Inpaint

# ``Through.within`` with the least errors, of 1, 1.5, 2, 3 and None, on training images set aside.
WITHIN = 2.0


@dataclass
class Between:
    """``through`` where lowest ≤ σ_t ≤ highest, elsewhere ``outside``; sample with ``Through.skip``.

    outside: a factor of p(x^{t−1}|x^t), such as an annealed ``Inpaint``, or a cheaper ``Through``.
    lowest, highest: bounds of σ_t = √((1−ᾱ_t)/ᾱ_t), for data of variance one.
    limits: the range of data. The mean of x^0 is put at the limit where a shift, a first-order step,
        takes it beyond; in a chain of few steps it would never come back.
    """

    through: Through
    outside: Factor
    lowest: float = 0.05
    highest: float = 10.0
    limits: tuple[float, float] | None = None

    def __call__(
        self, kernel: GaussianKernel, p: Normal | None, xt: Tensor | None, t: int
    ) -> Normal:
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
    """How a hole is filled in: through the model, outside by replacement; known pixels stay exact.

    x0: (n, ...), read where ``known`` (bool, broadcastable to it) is true. solve: of ``Through``.
    """
    through = Through(reverse, Mask(known), torch.where(known, x0, 0.0), 0.0, solve, WITHIN)
    return Between(through, Inpaint(x0, known, annealed=True), limits=limits)
