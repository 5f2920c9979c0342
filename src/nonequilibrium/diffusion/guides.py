"""r_t as a number: log r_t(x^t) of every factor of ``posterior``, ``bit_evidence`` and
``evidence``, and a factor of any log r_t.

A factor multiplies a reverse kernel; to weigh what it draws one needs the value of r_t as well
(``particles``). At t = 0 the value is that of r(x^0) itself, normalised as the observation's
density, so that the expectation of r is the probability of what was seen. At t ≥ 1 r_t only steers:
the weights make any positive function exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.diffusion.bit_evidence import BitFactor, TemplateFactor
from nonequilibrium.diffusion.chain import Kernel, Normal
from nonequilibrium.diffusion.evidence import LEAST, Mask, Through
from nonequilibrium.diffusion.kernels import LOG_2PI, BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.errors import ParameterError


@dataclass
class Shift:
    """Any differentiable r_t, by the shift of (61): the mean moves by f_Σ ∂log r_{t−1}/∂x at x =
    f_μ.

    log_r_t: from (x (n, event), t) to log r_t(x), (n,) nats, for t = 0..T. At t = 0 it is log
    r(x^0).
    """

    log_r_t: Callable[[Tensor, int], Tensor]

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        with torch.enable_grad():
            x = p.mean.detach().requires_grad_()
            slope = torch.autograd.grad(self.log_r_t(x, t - 1).sum(), x)[0]
        return Normal(p.mean + p.var * slope, p.var)


@singledispatch
def log_r(r: Any, kernel: Kernel, x: Tensor, t: int) -> Tensor:
    """log r_t(x^t) of a factor r: x (n, event) and t from 0 to T, to (n,) nats. Raises ParameterError."""
    raise ParameterError(
        f"log r_t of {type(r).__name__} is not known; `Shift` makes a factor of any differentiable log r_t"
    )


@log_r.register
def _(r: Shift, kernel: Kernel, x: Tensor, t: int) -> Tensor:
    return r.log_r_t(x, t).detach()


@log_r.register
def _(r: Denoise, kernel: Kernel, x: Tensor, t: int) -> Tensor:
    power = 1 - t / kernel.T if r.annealed else 1.0
    return power * kernel.sum_event(_log_normal(r.y - x, torch.full_like(x, r.var)))


@log_r.register
def _(r: BitFactor, kernel: Kernel, x: Tensor, t: int) -> Tensor:
    power = 1 - t / kernel.T if r.annealed else 1.0
    return power * kernel.sum_event(x * r.log_odds.to(x))


@log_r.register
def _(r: TemplateFactor, kernel: BinomialKernel, x: Tensor, t: int) -> Tensor:
    if t == 0:
        return kernel.sum_event(x * r.log_odds.to(x))
    x0, x = r.templates.to(x), x[..., None, :]
    x0 = x0.expand(*x.shape[:-2], *x0.shape)
    log_weight = torch.log_softmax(
        kernel.log_prob(x, kernel.q_marginal(x0, t)), -1
    )  # of each template given x^t
    return torch.logsumexp(log_weight + kernel.sum_event(r.templates * r.log_odds).to(x), -1)


@log_r.register
def _(r: Inpaint, kernel: Kernel, x: Tensor, t: int) -> Tensor:
    """Of replacement: what each known pixel of x^t says by itself of its value in x^0, if data were
    white.
    """
    if not r.annealed:
        raise ParameterError(
            "a delta at all t leaves no paths to weigh; use Inpaint with annealed = True, or Through"
        )
    if t == 0:
        return x.new_zeros(len(x))  # the density of the known coordinates is in p(x^0|x^1)
    root, left = (kernel.at(c, t, x) for c in (kernel.alpha_bar.sqrt(), kernel.one_minus_alpha_bar))
    return kernel.sum_event(torch.where(r.known, _log_normal(r.x0 - root * x, left), 0.0))


@log_r.register
def _(r: Through, kernel: GaussianKernel, x: Tensor, t: int) -> Tensor:
    """N(y; A x̂^0(x^t), A C_t A^T + σ²). With ``solve`` its determinant is left out, which for
    Gaussian data does not depend on x^t.
    """
    if r.var == 0 and not isinstance(r.A, Mask):
        raise ParameterError(
            "an observation without noise that is no mask has no density to weigh by; give it a small var"
        )
    if t > 1 and r.solve:
        return _quadratic(r, kernel, x, t)
    seen = torch.ones_like(r.y, dtype=torch.bool)
    if isinstance(r.A, Mask):
        seen = r.A.known.expand(r.y.shape)
    if t == 0:
        if r.var == 0:
            return x.new_zeros(len(x))  # as in ``Inpaint``
        mean, var = r.A(x), torch.full_like(r.A(x), r.var)
    elif t == 1:
        edge = kernel.p_edge(x)
        mean, var = r.A(edge.mean), r.A.variance(edge.var.expand_as(x)) + r.var
    else:
        x0 = kernel.x0_given(r.reverse(x, t), x, t)
        left = kernel.at(kernel.one_minus_alpha_bar, t, x)
        mean, var = (
            r.A(x0.mean),
            r.A.variance(torch.maximum(x0.var, LEAST * left).expand_as(x)) + r.var,
        )
    terms = torch.where(seen, _log_normal(r.y - mean, torch.where(seen, var, 1.0)), 0.0)
    return terms.flatten(1).sum(1).detach()


def _quadratic(r: Through, kernel: GaussianKernel, x: Tensor, t: int) -> Tensor:
    """−½ (y − A x̂^0)^T (A C_t A^T + σ²)^−1 (y − A x̂^0), (n,) nats, by the equations that
    ``Through`` solves for its shift.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        mean, var = kernel.x0_given(r.reverse(x, t), x, t)
        seen = r.A(mean)
        left = kernel.at(kernel.one_minus_alpha_bar, t, x)
        scale = left / kernel.at(kernel.alpha_bar.sqrt(), t, x)
        noise = r.A.variance(torch.maximum(var.detach(), LEAST * left).expand_as(x)) + r.var
        residual = (r.y - seen).detach()

        def pulled(u: Tensor) -> Tensor:
            return scale * torch.autograd.grad(seen, x, u, retain_graph=True)[0]

        u, _ = r._solved(pulled, residual, noise)
    return -0.5 * (residual * u).flatten(1).sum(1).detach()


def _log_normal(off: Tensor, var: Tensor) -> Tensor:
    """log N(off; 0, var) of each coordinate, nats."""
    return -0.5 * (off**2 / var + torch.log(var) + LOG_2PI)


def log_density(kernel: Kernel, x: Tensor, p: Any, held: Tensor | None = None) -> Tensor:
    """log p(x), (n,) nats, without the coordinates where ``held`` is true (Gaussian kernel)."""
    if held is None:
        return kernel.log_prob(x, p)
    terms = _log_normal(x - p.mean, torch.where(held, 1.0, p.var))
    return kernel.sum_event(torch.where(held, 0.0, terms))
