"""r_t as a number, by which ``particles`` weighs what a factor draws, and a factor of any log r_t.

At t = 0 the value is that of r(x^0), normalised as the observation's density, so that the
expectation of r is the probability of the observation. At t ≥ 1 r_t only steers: the weights make
any positive function exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Kernel, Normal
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.errors import ParameterError


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


def log_r(r: Any, kernel: Kernel, x: Tensor, t: int) -> Tensor:
    """log r_t(x^t) of a factor r: x (n, event) and t from 0 to T, to (n,) nats."""
    if not hasattr(r, "log_r"):
        name = type(r).__name__
        raise ParameterError(f"log r_t of {name} is not known; `Shift` is a factor of any log r_t")
    return r.log_r(kernel, x, t)
