"""A factor for y = A x^0 + noise that looks through the model: r_t(x^t) = E[r(x^0)|x^t], for which
the chain is exact, is N(y; A x̂^0, A C_t A^T + σ²) where x^0 given x^t is Gaussian, of mean x̂^0
and covariance C_t = (1−ᾱ_t)/√ᾱ_t ∂x̂^0/∂x^t (Tweedie). Song et al. 2023 assume C_t diagonal.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.errors import ParameterError

LEAST = 0.01  # the least V_t as a part of 1 − ᾱ_t, which white Gaussian data would leave open


@dataclass
class Mask:
    """x where ``known`` (bool, broadcastable to x), zero elsewhere."""

    known: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.known, x, 0.0)

    variance = __call__


@dataclass
class Downsample:
    """Means of blocks of factor × factor pixels: (n, c, h, w) to (n, c, h/factor, w/factor)."""

    factor: int

    def __call__(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if self.factor < 1 or h % self.factor or w % self.factor:
            raise ParameterError(f"blocks of {self.factor} pixels do not divide images of {h}×{w}")
        return F.avg_pool2d(x, self.factor)

    def variance(self, var: Tensor) -> Tensor:
        return F.avg_pool2d(var, self.factor) / self.factor**2


@dataclass
class Blur:
    """Convolution of images (n, c, h, w) with a Gaussian of ``sigma`` pixels; zero outside."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ParameterError(f"sigma of a blur is {self.sigma}; it must be a positive number")

    def variance(self, var: Tensor) -> Tensor:
        return self(var, power=2)

    def __call__(self, x: Tensor, power: int = 1) -> Tensor:
        reach = max(1, round(3 * self.sigma))
        at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        weights = torch.softmax(-(at**2) / (2 * self.sigma**2), 0) ** power
        along = weights.expand(x.shape[1], 1, 1, -1)
        x = F.conv2d(x, along, padding=(0, reach), groups=len(along))
        return F.conv2d(x, along.mT, padding=(reach, 0), groups=len(along))


def _over(a: Tensor, b: Tensor) -> Tensor:
    """a / b, zero where b is."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))


def _sum(x: Tensor) -> Tensor:
    """Over all axes but that of examples, which stay as axes of length one."""
    return x.sum(tuple(range(1, x.dim())), keepdim=True)


def _to_the_edge(move: Tensor, d: Tensor, most: Tensor | None) -> Tensor:
    """The largest s per example for which the squares of move + s d sum to at most ``most``."""
    if most is None:
        return torch.full_like(_sum(d), torch.inf)
    a, b, left = _sum(d * d), _sum(move * d), most - _sum(move * move)
    return _over((b**2 + a * left.clamp(min=0)).sqrt() - b, a)


@dataclass(eq=False)
class Through:
    """r_t(x^t) = N(y; A x̂^0(x^t), A C_t A^T + σ²), by derivatives of ``reverse``, the model's.

    A: from x to A x; its ``variance``: from var to the diagonal of A diag(var) A^T. y: like A(x),
    zero where a mask hides it. var: σ²; with 0 and a mask the known coordinates stay exact.
    solve: steps of conjugate gradients for (A C_t A^T + σ²) u = y − A x̂^0, each a derivative. With
    0, A C_t A^T is assumed diagonal; solved, Gaussian data are exact to first order in f_Σ.
    within: ends solving (Steihaug 1983): a bound on the shift of x̂^0 in units of its deviation, in
    root mean square; at most 1 in expectation if C_t is a covariance.
    """

    reverse: Reverse[Normal]
    A: Any
    y: Tensor
    var: float
    solve: int = 0
    within: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.var < math.inf:
            raise ParameterError(f"var is {self.var}; a variance of noise must be at least zero")

    @staticmethod
    def skip(xt: Tensor, t: Tensor | int) -> Any:
        """For ``sample``, in place of a reverse that this object calls itself."""

    def __call__(self, kernel: GaussianKernel, p: Any, xt: Tensor | None, t: int) -> Normal:
        if xt is None or t == 1:
            return p if xt is None else self._edge(p)  # of x^0 only ᾱ_T is left in x^T
        p, _, _, move = self._looked(kernel, xt, t, self.within)
        on_x0 = kernel.at(kernel.posterior_on_x0, t, xt)
        shifted = Normal(p.mean.detach() + on_x0 * move, p.var.detach())
        if isinstance(self.A, Mask) and self.var == 0:  # known ones go back to their values
            return kernel.q_posterior(self.y, xt, t).where(self.A.known, shifted)
        return shifted

    def log_r(self, kernel: GaussianKernel, x: Tensor, t: int) -> Tensor:
        """log r_t(x^t). With ``solve`` the determinant is left out, constant for Gaussian data."""
        if self.var == 0 and not isinstance(self.A, Mask):
            raise ParameterError("there is no density without noise but for a mask; give a var")
        if t > 1 and self.solve:
            _, residual, u, _ = self._looked(kernel, x, t, None)
            return -0.5 * (residual * u).flatten(1).sum(1).detach()
        if t == 0 and self.var == 0:
            return x.new_zeros(len(x))  # the density of the known coordinates is in p(x^0|x^1)
        if t > 1:
            x0 = self._x0(kernel, self.reverse(x, t), x, t)
        else:
            x0 = kernel.p_edge(x) if t == 1 else Normal(x, torch.zeros_like(x))
        seen = self.A.known if isinstance(self.A, Mask) else torch.ones_like(self.y).bool()
        var = self.A.variance(x0.var.expand_as(x)) + self.var
        terms = Normal(self.A(x0.mean), torch.where(seen, var, 1.0)).log_prob(self.y)
        return torch.where(seen, terms, 0.0).flatten(1).sum(1).detach()

    @staticmethod
    def _x0(kernel: GaussianKernel, p: Normal, xt: Tensor, t: int) -> Normal:
        """x̂^0 and V_t, the mean and the variance of x^0 given x^t."""
        x0, left = kernel.x0_given(p, xt, t), kernel.at(kernel.one_minus_alpha_bar, t, xt)
        return Normal(x0.mean, torch.maximum(x0.var.detach(), LEAST * left).expand_as(xt))

    def _looked(
        self, kernel: GaussianKernel, xt: Tensor, t: int, within: float | None
    ) -> tuple[Normal, Tensor, Tensor, Tensor]:
        """p(x^{t−1}|x^t), y − A x̂^0, u of (A C A^T + σ²) u = y − A x̂^0, and the shift C A^T u."""
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            p = self.reverse(x, t)
            if not p.mean.requires_grad:
                raise ParameterError("the reverse's mean has no derivative in x^t; is no_grad on?")
            x0 = self._x0(kernel, p, x, t)
            seen = self.A(x0.mean)
            scale = kernel.at(kernel.one_minus_alpha_bar, t, xt)
            scale = scale / kernel.at(kernel.alpha_bar.sqrt(), t, xt)

            def pulled(u: Tensor) -> Tensor:
                """C A^T u, shaped like x."""
                return scale * torch.autograd.grad(seen, x, u, retain_graph=True)[0]

            residual = (self.y - seen).detach()
            most = None if within is None else within**2 * _sum(x0.var)
            u, move = self._solved(pulled, residual, self.A.variance(x0.var) + self.var, most)
        return p, residual, u, move

    def _solved(
        self, pulled: Callable, residual: Tensor, diagonal: Tensor, most: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """u and C A^T u, of squares that sum to ``most``, by conjugate gradients for each example;
        ``pulled`` is C A^T, and the ``diagonal`` of A C A^T + σ² a preconditioner.
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
        """p(x^0|x^1) r(x^0)/Z̃; the mean is exact for diagonal A A^T, the variance for masks."""
        var = p.var.expand_as(p.mean)
        with torch.enable_grad():
            x = p.mean.detach().requires_grad_()
            seen = self.A(x)
            u = _over(self.y - seen, self.A.variance(var) + self.var).detach()
            move = p.var * torch.autograd.grad(seen, x, u)[0]
        if not isinstance(self.A, Mask):
            return Normal(p.mean + move, var)
        mean = torch.where(self.A.known, self.y, p.mean) if self.var == 0 else p.mean + move
        return Normal(mean, torch.where(self.A.known, var * self.var / (var + self.var), var))
