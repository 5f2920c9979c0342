"""r that looks through the model only where it is worth its derivatives: at noise that is neither
too large nor too small.

Where x^t is almost nothing but noise, r_t hardly depends on it. Where it is almost x^0, whatever
was seen is seen in x^t itself. So outside of a range of noise a cheaper factor does the same. For a
signal-to-noise ratio that falls evenly in its logarithm, half of the steps are outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Normal
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import Inpaint

LOWEST, HIGHEST = 0.05, 10.0  # of σ_t = √((1−ᾱ_t)/ᾱ_t), for data of variance one
# How far at most the mean of x^0 is moved, in its own deviations (see ``Through``). Of 1, 1.5, 2, 3
# and no bound, 2 gave the least errors on training images set aside: 1 holds back good moves, and
# without a bound one step in hundreds moves it by ten.
WITHIN = 2.0


@dataclass
class Between:
    """``through`` where lowest ≤ σ_t ≤ highest, elsewhere ``outside``; an ``r`` of
    ``sampling.sample`` with ``Through.skip``.

    outside: a factor of p(x^{t−1}|x^t), such as ``Inpaint`` with annealed = True, or another
    ``Through``, with fewer steps of solving.
    limits: the least and the largest value that data have. A shift is a first-order step; now and
        then, in a chain of few steps, it takes the mean of x^0 far beyond what any image has, and
        what follows never comes back. The mean is then put at the limit.
    """

    through: Through
    outside: Factor
    lowest: float = LOWEST
    highest: float = HIGHEST
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
    reverse, x0: Tensor, known: Tensor, solve: int, limits: tuple[float, float]
) -> Between:
    """How a hole is filled in: through the model, beyond the two noises by replacement; known
    coordinates come out as given.

    x0 (n, ...): known values; what it holds elsewhere does not matter. known: bool, broadcastable
    to it. solve: as of ``Through``.
    """
    through = Through(reverse, Mask(known), torch.where(known, x0, 0.0), 0.0, solve, WITHIN)
    return Between(through, Inpaint(x0, known, annealed=True), limits=limits)
