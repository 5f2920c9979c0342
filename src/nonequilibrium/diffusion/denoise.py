"""Denoising that is exact but for the model: the observation is itself a state of the chain.

y = x^0 + noise of variance σ² is, times √ᾱ_t, an x^t of the step t at which (1−ᾱ_t)/ᾱ_t = σ². The
reverse chain from there on draws from p(x^0|x^t) = p(x^0) r(x^0)/Z̃ with the r of this noise. As a
chain has no step of exactly this noise, y is given the noise that it lacks of the next noisier one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Normal, Random, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.errors import ParameterError


def step_of(kernel: GaussianKernel, var: float) -> int:
    """The first step t ≥ 2 whose (1−ᾱ_t)/ᾱ_t is at least ``var``."""
    noise = (kernel.one_minus_alpha_bar / kernel.alpha_bar).detach()
    if not 0 < var <= float(noise[-1]):
        allowed = f"it must be positive and at most the chain's {noise[-1]:g}"
        raise ParameterError(f"the noise's variance is {var:g}; {allowed}")
    return max(2, int(torch.searchsorted(noise, torch.tensor(var, dtype=noise.dtype))))


def excess(kernel: GaussianKernel, var: float) -> float:
    """The noise that is added to y, as a part of ``var``; 0 where a step has just this noise."""
    t = step_of(kernel, var)
    return max(float(kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]) / var - 1, 0.0)


def as_state(
    kernel: GaussianKernel, y: Tensor, var: float, generator: Random
) -> tuple[int, Tensor]:
    """(t, x^t) of observations y (n, event) with noise of variance ``var``."""
    t, missing = step_of(kernel, var), excess(kernel, var) * var
    noisier = y + missing**0.5 * kernel.noise(y, generator)
    return t, kernel.at(kernel.alpha_bar.sqrt(), t, y) * noisier


def denoised(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator: Random
) -> Tensor:
    """Samples of x^0 given y = x^0 + noise of variance ``var``, (n, event)."""
    start = as_state(kernel, y, var, generator)
    return sample(kernel, reverse, y.shape, generator, start=start)


@torch.no_grad()
def denoised_mean(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator: Random
) -> Tensor:
    """The model's mean of x^0 given y, (n, event), by one call: the best guess in mean square."""
    t, xt = as_state(kernel, y, var, generator)
    return kernel.x0_given(reverse(xt, t), xt, t).mean
