"""Samples given evidence, in the manner of section 2.5: every reverse kernel is multiplied by
r(x^{t−1}) and normalised.

What is drawn approximates the posterior p̃(x^0) ∝ p(x^0) r(x^0). Exact steps would be
p(x^{t−1}|x^t) Z̃_{t−1}(x^{t−1})/Z̃_t(x^t) with Z̃_t(x^t) the expectation of r(x^0) given x^t. The
paper keeps r(x^t) = r(x^0) for all t (23), which puts r in Z̃_t's place. The product of a diagonal
Gaussian with a Gaussian or a delta is in closed form, so (61)'s shift of the mean needs no
expansion; the choice of r(x^t) is the approximation.

Neither way of inpainting uses the known pixels rightly. Take a row of 32 Gaussian pixels with
correlation 0.8 between neighbours and its 16 centre pixels missing. Against the exact posterior
constant r is 0.22 nats off and *annealed* 0.41 (Kullback–Leibler divergence), because the mean
moves only 0.75 and 0.46 of the way that the known pixels call for. At correlation 0.99 the order is
the other way round: 3.6 and 2.5 nats. ``tests/recursion.py`` computes these figures without a draw.

An ``r`` is called as ``r(kernel, p, xt, t)`` with p = p(x^{t−1}|x^t) and returns p̃(x^{t−1}|x^t);
at t = T + 1, with p = π, it gives the start p̃(x^T).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.errors import ParameterError


@dataclass
class Denoise:
    """r(x) = N(y; x, var): y is what was seen, x plus Gaussian noise of variance ``var`` (1 is a
    signal-to-noise ratio of 1).

    annealed: r(x^t) = r(x^0)^((T−t)/T), the alternative of (23).
    """

    y: Tensor
    var: float
    annealed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.var < math.inf:
            raise ParameterError(
                f"var is {self.var}; the variance of the noise must be a positive number"
            )

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        power = 1 - (t - 1) / kernel.T if self.annealed else 1.0
        precision = power / self.var
        var = p.var / (1 + p.var * precision)
        return Normal(var * (p.mean / p.var + self.y * precision), var)


@dataclass
class Inpaint:
    """r is a delta on the known coordinates: x0 holds them, ``known`` (bool, broadcastable to x0)
    says which they are.

    They come out exactly as given. Constant r, as the paper: they are held at their values at all
    t. annealed: they are replaced by their own forward chain, run backwards from noise at t = T, so
    that both parts of the image are at one noise level. A delta has no powers that fade, so this is
    no r(x^0)^((T−t)/T): nothing is conditioned on, the known pixels only stand beside the others.
    """

    x0: Tensor
    known: Tensor
    annealed: bool = False

    def __post_init__(self):
        if getattr(self.known, "dtype", None) != torch.bool:
            kind = getattr(self.known, "dtype", type(self.known).__name__)
            raise ParameterError(
                f"the mask has dtype {kind}; it must be boolean (torch.bool), true where a pixel is known"
            )
        try:
            self.known = self.known.expand(self.x0.shape)
        except RuntimeError:
            raise ParameterError(
                f"the mask has shape {tuple(self.known.shape)}; it must fit images of shape {tuple(self.x0.shape)}"
            ) from None

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        value, var = self.x0, torch.zeros(())
        if self.annealed and t == kernel.T + 1:
            value, var = kernel.q_marginal(self.x0, kernel.T)
        elif self.annealed and xt is not None and t > 1:
            value, var = kernel.q_posterior(self.x0, xt, t)
        return Normal(torch.where(self.known, value, p.mean), torch.where(self.known, var, p.var))
