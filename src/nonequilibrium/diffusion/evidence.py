"""Posteriors given a linear observation y = A x^0 + noise, with r_t that looks through the model
(section 2.5).

The chain of p̃(x^0) ∝ p(x^0) r(x^0) is exact if every reverse kernel is multiplied by r_t(x^t) =
E[r(x^0)|x^t] (Doob's h-transform; every Z̃_t is then one). The paper puts r itself in its place.
For a Gaussian r that expectation is closed where x^0 given x^t is Gaussian,

    r_t(x^t) = N(y; A x̂^0(x^t), A C_t A^T + σ²),

with the mean x̂^0 that the model itself has of x^0 given x^t. Tweedie's second identity gives the
covariance, C_t = (1−ᾱ_t)/√ᾱ_t ∂x̂^0/∂x^t. The mean of p(x^{t−1}|x^t) then moves by the covariance
of x^{t−1} and x^0 given x^t, times what y says of x^0: derivatives through the network. Later
papers, which take A C_t A^T for diagonal, call it pseudo-inverse guidance (Song et al. 2023). C_t
cannot be taken for diagonal: neighbouring known pixels say nearly the same, and each of them would
count as news.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.errors import ParameterError

LEAST = 0.01  # V_t is taken for at least this part of 1 − ᾱ_t, what white Gaussian data would leave open


class Linear(Protocol):
    """A of an observation y = A x^0 + noise; a linear function of x (..., event)."""

    def __call__(self, x: Tensor) -> Tensor:
        """A x."""

    def variance(self, var: Tensor) -> Tensor:
        """The diagonal of A diag(var) A^T, shaped like y."""


@dataclass
class Mask:
    """The coordinates where ``known`` (bool, broadcastable to x) is true; the others are seen as
    zero.
    """

    known: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.known, x, 0.0)

    def variance(self, var: Tensor) -> Tensor:
        return torch.where(self.known, var, 0.0)


@dataclass
class Downsample:
    """Means of square blocks of ``factor`` × ``factor`` pixels: (n, c, h, w) to (n, c, h/factor,
    w/factor).
    """

    factor: int

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ParameterError(
                f"the factor of a down-sampling is {self.factor}; it must be at least 1"
            )

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise ParameterError(
                f"blocks of {self.factor} pixels do not divide images of {x.shape[-2]}×{x.shape[-1]}"
            )
        return F.avg_pool2d(x, self.factor)

    def variance(self, var: Tensor) -> Tensor:
        return F.avg_pool2d(var, self.factor) / self.factor**2


@dataclass
class Blur:
    """Convolution with a Gaussian of standard deviation ``sigma`` pixels, zero beyond the border:
    (n, c, h, w) to itself.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ParameterError(
                f"sigma of a blur is {self.sigma}; it must be a positive number of pixels"
            )

    def _weights(self, like: Tensor) -> Tensor:
        reach = max(1, round(3 * self.sigma))
        at = torch.arange(-reach, reach + 1, dtype=like.dtype, device=like.device)
        return torch.softmax(-(at**2) / (2 * self.sigma**2), 0)

    def _convolved(self, x: Tensor, weights: Tensor) -> Tensor:
        c, reach = x.shape[1], len(weights) // 2
        along = weights.expand(c, 1, 1, -1)
        x = F.conv2d(x, along, padding=(0, reach), groups=c)
        return F.conv2d(x, along.transpose(2, 3), padding=(reach, 0), groups=c)

    def __call__(self, x: Tensor) -> Tensor:
        return self._convolved(x, self._weights(x))

    def variance(self, var: Tensor) -> Tensor:
        return self._convolved(var, self._weights(var) ** 2)


def _over(a: Tensor, b: Tensor) -> Tensor:
    """a / b, zero where b is."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))


def _sum(x: Tensor) -> Tensor:
    """Over all axes but that of examples, which stay as axes of length one."""
    return x.sum(tuple(range(1, x.dim())), keepdim=True)


def _to_the_edge(move: Tensor, d: Tensor, most: Tensor | None) -> Tensor:
    """The largest s for which the squares of move + s d sum to at most ``most``, of which None is
    no bound; for each example.
    """
    if most is None:
        return torch.full_like(_sum(d), torch.inf)
    a, b, left = _sum(d * d), _sum(move * d), most - _sum(move * move)
    return _over((b**2 + a * left.clamp(min=0)).sqrt() - b, a)


class Through:
    """Multiplies every reverse kernel by r_t(x^t) = N(y; A x̂^0(x^t), A C_t A^T + σ²), as an ``r``
    of ``sampling.sample``.

    reverse: p(x^{t−1}|x^t) as a function of (x^t, t), which is differentiated.
    A: a ``Linear``. y: the observation, shaped like A(x), zero where A is a mask that hides it.
        var: σ² of its noise; with 0 and a mask the known coordinates come out exactly as given.
    solve: steps of conjugate gradients that solve (A C_t A^T + σ²) u = y − A x̂^0, each a
        derivative through the network. With 0, A C_t A^T is taken for diagonal. For Gaussian data
        the chain is exact to first order in f_Σ if they suffice.
    within: how far at most y moves the mean of x^0: its root mean square over an example, in those
        of the deviation that x^0 has given x^t. A posterior's mean moves by no more than that in
        expectation, for tr C A^T (A C A^T + σ²)^−1 A C ≤ tr C. A network's derivative is nearly a
        covariance, and at some x^t it is none: solving then ends where it leaves this region
        (truncated conjugate gradients, Steihaug 1983). For examples of many coordinates; None, for
        few, where one moves farther by chance.
    The variance of p(x^{t−1}|x^t) is kept: what y takes off it is of second order in f_Σ.
    """

    def __init__(
        self, reverse, A: Linear, y: Tensor, var: float, solve: int = 0, within: float | None = None
    ):
        if not 0 <= var < math.inf:
            raise ParameterError(
                f"var is {var}; the variance of the observation's noise must be zero or a positive number"
            )
        self.reverse, self.A, self.y, self.var, self.solve, self.within = (
            reverse,
            A,
            y,
            var,
            solve,
            within,
        )

    @staticmethod
    def skip(xt: Tensor, t: Tensor | int) -> Any:
        """In place of ``reverse`` for ``sample``, which needs no plain p(x^{t−1}|x^t) beside that
        of this object.
        """

    def __call__(
        self, kernel: GaussianKernel, p: Normal | None, xt: Tensor | None, t: int
    ) -> Normal:
        if p is not None and t == kernel.T + 1:
            return p  # the signal left in x^T is ᾱ_T: r_T is constant but for that
        if p is not None and t == 1:
            return self._edge(p)
        assert xt is not None, "only at t = T + 1 is there no x^t"
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            p = self.reverse(x, t)
            if not p.mean.requires_grad:
                raise ParameterError(
                    "the reverse's mean has no derivative in x^t, through which r looks; is it under no_grad?"
                )
            mean, var = kernel.x0_given(p, x, t)
            seen = self.A(mean)
            left = kernel.at(kernel.one_minus_alpha_bar, t, xt)
            scale = left / kernel.at(kernel.alpha_bar.sqrt(), t, xt)
            var = torch.maximum(var.detach(), LEAST * left).expand_as(x)
            noise = self.A.variance(var) + self.var

            def pulled(u: Tensor) -> Tensor:
                """C A^T u, shaped like x."""
                return scale * torch.autograd.grad(seen, x, u, retain_graph=True)[0]

            residual = (self.y - seen).detach()
            most = None if self.within is None else self.within**2 * _sum(var.expand_as(x))
            move = self._solved(pulled, residual, noise, most)[1]
        on_x0 = kernel.at(kernel.posterior_on_x0, t, xt)
        result = Normal(p.mean.detach() + on_x0 * move, p.var.detach())
        if not (isinstance(self.A, Mask) and self.var == 0):
            return result
        q = kernel.q_posterior(
            self.y, xt, t
        )  # a known coordinate goes back to its value whatever the others do
        return Normal(
            torch.where(self.A.known, q.mean, result.mean),
            torch.where(self.A.known, q.var, result.var),
        )

    def _solved(
        self, pulled, residual: Tensor, diagonal: Tensor, most: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """u of (A C A^T + σ²) u = residual, and C A^T u: conjugate gradients preconditioned by
        ``diagonal``, for each example apart.

        pulled: u to C A^T u. most: the largest sum of squares of C A^T u.
        """
        r = residual
        z = d = _over(r, diagonal)
        if not self.solve:
            move = pulled(d)
            share = _to_the_edge(torch.zeros_like(move), move, most).clamp(max=1.0)
            return share * d, share * move
        u, move, rz = torch.zeros_like(d), torch.zeros(()), _sum(r * z)
        going = torch.ones_like(rz, dtype=torch.bool)
        for _ in range(self.solve):
            on_x0 = pulled(d)
            product = self.A(on_x0) + self.var * d
            curvature = _sum(d * product)
            going = going & (curvature > 0) & (rz > 1e-20)
            whole, edge = _over(rz, curvature), _to_the_edge(move.expand_as(on_x0), on_x0, most)
            step = torch.where(going, torch.minimum(whole, edge), 0.0)
            going = going & (whole < edge)
            u, move, r = u + step * d, move + step * on_x0, r - step * product
            z, before = _over(r, diagonal), rz
            rz = _sum(r * z)
            d = z + torch.where(going, _over(rz, before), 0.0) * d
        return u, move

    def _edge(self, p: Normal) -> Normal:
        """p(x^0|x^1) r(x^0) / Z̃: the mean exact where A A^T is diagonal, as of masks and
        down-sampling, the variance of a mask.
        """
        with torch.enable_grad():
            x = p.mean.detach().requires_grad_()
            seen = self.A(x)
            total = self.A.variance(p.var.expand_as(x)) + self.var
            u = _over(self.y - seen, total).detach()
            move = p.var * torch.autograd.grad(seen, x, u)[0]
        var = p.var.expand_as(x)
        if not isinstance(self.A, Mask):
            return Normal(p.mean + move, var)
        mean = torch.where(self.A.known, self.y, p.mean) if self.var == 0 else p.mean + move
        return Normal(mean, torch.where(self.A.known, var * self.var / (var + self.var), var))
