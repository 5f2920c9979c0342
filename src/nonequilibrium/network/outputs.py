"""From a network's z^μ and z^Σ, (n, c, h, w) like x^t, to the parameters μ, Σ of p(x^{t−1}|x^t)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.kernels import GaussianKernel

Step = Tensor | int
Shape = tuple[int, int, int]  # channels, height, width


def paper(kernel: GaussianKernel, xt: Tensor, t: Step, z_mu: Tensor, z_sigma: Tensor) -> Normal:
    """Σ = sigmoid(z^Σ + logit β_t) (64), μ = (x − z^μ)(1 − Σ) + z^μ (65)."""
    var = torch.sigmoid(z_sigma + torch.logit(kernel.at(kernel.beta, t, xt)))
    return Normal((xt - z_mu) * (1 - var) + z_mu, var)


def reference(kernel: GaussianKernel, xt: Tensor, t: Step, z_mu: Tensor, z_sigma: Tensor) -> Normal:
    """The authors' published program: Σ of (64), μ = x√(1−β_t) + z^μ√β_t."""
    beta = kernel.at(kernel.beta, t, xt)
    var = torch.sigmoid(z_sigma + torch.logit(beta))
    return Normal(xt * (1 - beta).sqrt() + z_mu * beta.sqrt(), var)


def posterior(kernel: GaussianKernel, xt: Tensor, t: Step, z_mu: Tensor, z_sigma: Tensor) -> Normal:
    """z^μ is the noise in x^t: μ is the mean of q(x^{t−1}|x^t, x̂^0) at x̂^0 = (x − √(1−ᾱ_t)
    z^μ)/√ᾱ_t, Σ its variance times exp(z^Σ). The divergence is of order one in z at every t.
    """
    left = kernel.at(kernel.one_minus_alpha_bar.sqrt(), t, xt)
    beta = kernel.at(kernel.beta, t, xt)
    # With the parts of x̂^0 and x^t combined the mean is exact in float32 where 1−ᾱ_t is tiny.
    mean = (xt - beta / left * z_mu) / (1 - beta).sqrt()
    var = kernel.at(kernel.posterior_var, t, xt) * torch.exp(F.hardtanh(z_sigma, -10, 10))
    return Normal(mean, var)


def velocity(kernel: GaussianKernel, xt: Tensor, t: Step, z_mu: Tensor, z_sigma: Tensor) -> Normal:
    """``posterior`` with √(1−ᾱ_t) x^t + √ᾱ_t z^μ as the noise in x^t (Salimans & Ho 2022): z = 0 is
    optimal for white Gaussian data of variance one, so that K starts near L_null.
    """
    noise = kernel.at(kernel.one_minus_alpha_bar.sqrt(), t, xt)
    signal = kernel.at(kernel.alpha_bar.sqrt(), t, xt)
    return posterior(kernel, xt, t, noise * xt + signal * z_mu, z_sigma)


PARAMETERISATIONS = {f.__name__: f for f in (paper, reference, posterior, velocity)}
