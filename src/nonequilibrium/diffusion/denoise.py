"""Denoising that is exact but for the model: what was seen is itself a state of the chain.

y = x^0 + noise of variance σ² is, times √ᾱ_t, an x^t of the step t at which (1−ᾱ_t)/ᾱ_t = σ². The
reverse chain from there on draws from p(x^0|x^t) = p(x^0) r(x^0)/Z̃ with the r of this noise. No r
multiplies a step: what looks through the model is the chain itself. A chain has no step of just
this noise, so that y gets the noise that is missing to the next step of more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.diffusion.sampling import reverse_trajectory
from nonequilibrium.errors import ParameterError


def step_of(kernel: GaussianKernel, var: float) -> int:
    """The first step t ≥ 2 whose (1−ᾱ_t)/ᾱ_t is at least ``var``; raises ParameterError where the chain
    never has so much noise.
    """
    noise = kernel.one_minus_alpha_bar / kernel.alpha_bar
    if not 0 < var <= float(noise[-1]):
        raise ParameterError(
            f"the noise's variance is {var:g}; it must be positive and at most the chain's {noise[-1]:g}"
        )
    return max(
        2,
        int(torch.searchsorted(noise.detach().contiguous(), torch.tensor(var, dtype=noise.dtype))),
    )


def excess(kernel: GaussianKernel, var: float) -> float:
    """The noise that is added to y as a part of ``var``: 0 where a step of the chain has just this
    noise.
    """
    t = step_of(kernel, var)
    return max(float(kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]) / var - 1, 0.0)


def as_state(kernel: GaussianKernel, y: Tensor, var: float, generator) -> tuple[int, Tensor]:
    """(t, x^t) of observations y (n, event) with noise of variance ``var``. generator: one, or a
    list of n, one an observation.
    """
    t = step_of(kernel, var)
    extra = excess(kernel, var) * var
    if isinstance(generator, list):
        noise = torch.stack(
            [
                torch.randn(y.shape[1:], generator=g, dtype=y.dtype, device=y.device)
                for g in generator
            ]
        )
    else:
        noise = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=y.device)
    return t, kernel.at(kernel.alpha_bar.sqrt(), t, y) * (y + extra**0.5 * noise)


def denoised(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator
) -> Tensor:
    """Samples of x^0 given y = x^0 + noise of variance ``var``, (n, event); generator as in
    ``as_state``. Raises ParameterError.
    """
    start = as_state(kernel, y, var, generator)
    return reverse_trajectory(
        kernel, reverse, y.shape, generator, keep=[0], dtype=y.dtype, start=start
    )[0]


@torch.no_grad()
def denoised_mean(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator
) -> Tensor:
    """The model's mean of x^0 given y, (n, event), by one call of the network: the best guess in
    the mean square.
    """
    t, xt = as_state(kernel, y, var, generator)
    return kernel.x0_given(reverse(xt, t), xt, t).mean
