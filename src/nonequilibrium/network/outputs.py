"""From a network's z^μ, z^Σ to μ, Σ of p(x^{t−1}|x^t): by (64), (65), as the authors' published
program, or by the posterior's mean.

Each is called as ``parameterisation(kernel, xt, t, z_mu, z_sigma)`` with xt, z_mu and z_sigma (n,
c, h, w) and t (n,) or an integer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal


def paper_parameterisation(
    kernel: GaussianKernel, xt: Tensor, t: Tensor | int, z_mu: Tensor, z_sigma: Tensor
) -> Normal:
    """Σ = sigmoid(z^Σ + logit β_t) (64), μ = (x − z^μ)(1 − Σ) + z^μ (65)."""
    var = torch.sigmoid(z_sigma + torch.logit(kernel.at(kernel.beta, t, xt)))
    return Normal((xt - z_mu) * (1 - var) + z_mu, var)


def reference_parameterisation(
    kernel: GaussianKernel, xt: Tensor, t: Tensor | int, z_mu: Tensor, z_sigma: Tensor
) -> Normal:
    """The authors' published program: Σ as (64), μ = x√(1−β_t) + z^μ√β_t."""
    beta = kernel.at(kernel.beta, t, xt)
    return Normal(
        xt * (1 - beta).sqrt() + z_mu * beta.sqrt(), torch.sigmoid(z_sigma + torch.logit(beta))
    )


def posterior_parameterisation(
    kernel: GaussianKernel, xt: Tensor, t: Tensor | int, z_mu: Tensor, z_sigma: Tensor
) -> Normal:
    """z^μ is the noise in x^t: μ is the mean of q(x^{t−1}|x^t, x̂^0) at x̂^0 = (x − √(1−ᾱ_t)
    z^μ)/√ᾱ_t, Σ its variance times exp(z^Σ).

    The divergence is then of order one in z at every t, whatever β_t.
    """
    left = kernel.at(kernel.one_minus_alpha_bar.sqrt(), t, xt)
    beta = kernel.at(kernel.beta, t, xt)
    # The same mean with x^0's and x^t's parts combined, which keeps float32 exact where 1−ᾱ_t is
    # tiny.
    mean = (xt - beta / left * z_mu) / (1 - beta).sqrt()
    return Normal(
        mean, kernel.at(kernel.posterior_var, t, xt) * torch.exp(F.hardtanh(z_sigma, -10, 10))
    )


def velocity_parameterisation(
    kernel: GaussianKernel, xt: Tensor, t: Tensor | int, z_mu: Tensor, z_sigma: Tensor
) -> Normal:
    """The same with √(1−ᾱ_t) x^t + √ᾱ_t z^μ as the noise in x^t.

    z = 0 is then optimal for white Gaussian data of variance one, so that K starts near L_null.
    −z^μ is what later papers call the velocity (Salimans & Ho 2022).
    """
    noise, signal = (
        kernel.at(c.sqrt(), t, xt) for c in (kernel.one_minus_alpha_bar, kernel.alpha_bar)
    )
    return posterior_parameterisation(kernel, xt, t, noise * xt + signal * z_mu, z_sigma)


PARAMETERISATIONS: dict[str, Callable[..., Normal]] = {
    "paper": paper_parameterisation,
    "reference": reference_parameterisation,
    "posterior": posterior_parameterisation,
    "velocity": velocity_parameterisation,
}
