"""Factors r that multiply every reverse kernel for p̃(x^0) ∝ p(x^0) r(x^0) (2.5), normalised.

Exact steps would be p(x^{t−1}|x^t) Z̃_{t−1}(x^{t−1})/Z̃_t(x^t) with Z̃_t(x^t) = E[r(x^0)|x^t], in
whose place the paper puts r(x^t) = r(x^0) (23). For products of a Gaussian with a Gaussian or a
delta this is the only approximation, and a large one: with 16 of 32 Gaussian pixels missing, of
correlation 0.8 between neighbours, the mean moves 0.75 (constant r) or 0.46 (annealed) of the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Kernel, Normal
from nonequilibrium.diffusion.kernels import GaussianKernel, log_normal
from nonequilibrium.errors import ParameterError


def exponent(annealed: bool, t: int, T: int) -> float:
    """The power of r(x^0) in r(x^t) (23): 1 at all t, or (T−t)/T if ``annealed``."""
    return 1 - t / T if annealed else 1.0


def where_known(known: Tensor, inside: Normal, outside: Normal) -> Normal:
    """``inside`` where ``known`` is true, ``outside`` elsewhere."""
    return Normal(*(torch.where(known, *pair) for pair in zip(inside, outside, strict=True)))


@dataclass
class Denoise:
    """r(x) = N(y; x, var): y is x plus Gaussian noise of variance ``var``."""

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
    """r is a delta on the known coordinates of x0, which come out exactly as given.

    known: bool, broadcastable to x0. annealed: known coordinates are replaced by their own forward
    chain, run backwards, and not held at their values, so that the whole image has one noise level.
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
            raise ParameterError("a delta at all t leaves no paths to weigh; use annealed = True")
        if t == 0:
            return x.new_zeros(len(x))  # the density of the known coordinates is in p(x^0|x^1)
        root, left = kernel.alpha_bar.sqrt(), kernel.one_minus_alpha_bar
        terms = log_normal(self.x0, kernel.at(root, t, x) * x, kernel.at(left, t, x))
        return kernel.sum_event(torch.where(self.known, terms, 0.0))


@dataclass
class Shift:
    """Any differentiable r_t, by (61): the mean moves by f_Σ ∂log r_{t−1}/∂x at x = f_μ.

    log_r_t: from (x (n, event), t) to log r_t(x), (n,) nats, for t = 0..T.
    """

    log_r_t: Callable[[Tensor, int], Tensor]

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        with torch.enable_grad():
            x = p.mean.detach().requires_grad_()
            slope = torch.autograd.grad(self.log_r_t(x, t - 1).sum(), x)[0]
        return Normal(p.mean + p.var * slope, p.var)

    def log_r(self, kernel: Kernel, x: Tensor, t: int) -> Tensor:
        return self.log_r_t(x, t).detach()
