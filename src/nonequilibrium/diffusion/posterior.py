"""Samples given evidence (section 2.5): every reverse kernel is multiplied by r(x^{t−1}) and
normalised.

Exact steps of p̃(x^0) ∝ p(x^0) r(x^0) would be p(x^{t−1}|x^t) Z̃_{t−1}(x^{t−1})/Z̃_t(x^t), with
Z̃_t(x^t) the expectation of r(x^0) given x^t. The paper keeps r(x^t) = r(x^0) for all t (23) in its
place. The product of a diagonal Gaussian with a Gaussian or a delta is in closed form, so that the
choice of r(x^t) is the only approximation. It is a large one: with 16 of 32 Gaussian pixels missing
and neighbours of correlation 0.8, the mean moves 0.75 (constant r) and 0.46 (annealed) of the way.

An ``r`` is called as ``r(kernel, p, xt, t)`` with p = p(x^{t−1}|x^t) and returns p̃(x^{t−1}|x^t);
at t = T + 1, with p = π, it gives the start p̃(x^T). Its ``log_r(kernel, x, t)`` is log r_t(x^t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Kernel, Normal
from nonequilibrium.diffusion.kernels import GaussianKernel, log_normal
from nonequilibrium.errors import ParameterError


def where_known(known: Tensor, inside: Normal, outside: Normal) -> Normal:
    """The one distribution where ``known`` is true, the other elsewhere."""
    return Normal(*(torch.where(known, *pair) for pair in zip(inside, outside, strict=True)))


def exponent(annealed: bool, t: int, T: int) -> float:
    """The power of r(x^0) in r(x^t): 1 at all t, or falling to 0 at T, the alternative of (23)."""
    return 1 - t / T if annealed else 1.0


@dataclass
class Denoise:
    """r(x) = N(y; x, var): y is x plus Gaussian noise of variance ``var``.

    annealed: r(x^t) = r(x^0)^((T−t)/T), the alternative of (23).
    """

    y: Tensor
    var: float
    annealed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.var < math.inf:
            raise ParameterError(f"var is {self.var}; a variance of noise must be positive")

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        precision = exponent(self.annealed, t - 1, kernel.T) / self.var
        var = p.var / (1 + p.var * precision)
        return Normal(var * (p.mean / p.var + self.y * precision), var)

    def log_r(self, kernel: Kernel, x: Tensor, t: int) -> Tensor:
        terms = log_normal(self.y, x, torch.full_like(x, self.var))
        return exponent(self.annealed, t, kernel.T) * kernel.sum_event(terms)


@dataclass
class Inpaint:
    """r is a delta on the known coordinates of x0; ``known`` is bool, broadcastable to x0.

    They come out exactly as given. With constant r, as in the paper, they are held at their values
    at all t. annealed: they are replaced by their own forward chain, run backwards from noise, so
    that both parts of the image have one noise level. Nothing is conditioned on them then, as a
    delta has no powers that fade.
    """

    x0: Tensor
    known: Tensor
    annealed: bool = False

    def __post_init__(self):
        kind, shape = getattr(self.known, "dtype", type(self.known)), tuple(self.x0.shape)
        if kind != torch.bool:
            raise ParameterError(f"the mask has dtype {kind}; it must be boolean, true where known")
        try:
            self.known = self.known.expand(shape)
        except RuntimeError:
            given = f"the mask has shape {tuple(self.known.shape)}"
            raise ParameterError(f"{given}; it must fit images of shape {shape}") from None

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        inside = Normal(self.x0, torch.zeros(()))
        if self.annealed and xt is None:
            inside = kernel.q_marginal(self.x0, kernel.T)
        elif self.annealed and xt is not None and t > 1:
            inside = kernel.q_posterior(self.x0, xt, t)
        return where_known(self.known, inside, p)

    def log_r(self, kernel: GaussianKernel, x: Tensor, t: int) -> Tensor:
        """What each known pixel of x^t says by itself of its value in x^0, if data were white."""
        if not self.annealed:
            raise ParameterError(
                "a delta at all t leaves no paths to weigh; use annealed = True, or Through"
            )
        if t == 0:
            return x.new_zeros(len(x))  # the density of the known coordinates is in p(x^0|x^1)
        root, left = kernel.alpha_bar.sqrt(), kernel.one_minus_alpha_bar
        terms = log_normal(self.x0, kernel.at(root, t, x) * x, kernel.at(left, t, x))
        return kernel.sum_event(torch.where(self.known, terms, 0.0))
