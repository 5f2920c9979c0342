"""Denoising, exact but for the model: √ᾱ_t (x^0 + noise of variance σ²) is an x^t of the step t at
which (1−ᾱ_t)/ᾱ_t = σ², from where the reverse chain draws from p(x^0) r(x^0)/Z̃. Observations
between two steps are given the noise that is missing to the noisier one.
"""

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
        raise ParameterError(f"the noise's variance is {var:g}; the chain has 0 to {noise[-1]:g}")
    return max(2, int(torch.searchsorted(noise, torch.tensor(var, dtype=noise.dtype))))


def excess(kernel: GaussianKernel, var: float) -> float:
    """The noise that is added to y, as a part of ``var``; 0 where a step has just this noise."""
    t = step_of(kernel, var)
    return max(float(kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]) / var - 1, 0.0)


def as_state(kernel: GaussianKernel, y: Tensor, var: float, generator: Random):
    """(t, x^t) of observations y (n, event) with noise of variance ``var``."""
    t, missing = step_of(kernel, var), excess(kernel, var) * var
    noisier = y + missing**0.5 * kernel.noise(y, generator)
    return t, kernel.at(kernel.alpha_bar.sqrt(), t, y) * noisier


def denoised(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator: Random
) -> Tensor:
    """Samples of x^0 given y = x^0 + noise of variance ``var``, (n, event)."""
    return sample(kernel, reverse, y.shape, generator, start=as_state(kernel, y, var, generator))


@torch.no_grad()
def denoised_mean(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator: Random
) -> Tensor:
    """The model's mean of x^0 given y, (n, event), by one call: the best guess in mean square."""
    t, xt = as_state(kernel, y, var, generator)
    return kernel.x0_given(reverse(xt, t), xt, t).mean
