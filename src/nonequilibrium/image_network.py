"""The networks of the image experiments (Appendix D.2): f_μ and f_Σ for whole images.

A convolutional path (multi-scale convolutions), a dense path (the whole image), or both; then 1×1 layers with tanh; then, for
each pixel, coefficients of J bumps in time (62), (63). Like the toy networks it is called as ``network(kernel, xt, t)``
with xt (n, c, h, w) and t (n,), returns the parameters of p(x^{t−1}|x^t), and knows nothing of bounds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion import GaussianKernel, Normal


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent as 2 sigmoid(2x) − 1, which torch computes several times faster on a CPU than its own."""
    return torch.add(x.new_tensor(-1.0), torch.sigmoid(2 * x), alpha=2)


ACTIVATIONS = {"softplus": F.softplus, "leaky_relu": F.leaky_relu, "tanh": tanh}


class MultiScaleConv(nn.Module):
    """Mean-pool by powers of two, convolve each scale, upsample and sum (D.2.1): (n, c, h, w) to (n, out, h, w).

    The one nonlinearity follows the sum and is not applied here. Scales that do not divide the image are left out.
    """

    def __init__(self, channels: int, out: int, scales: int, width: int = 3):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, out, width, padding=width // 2, bias=scale == 0) for scale in range(scales)
        )

    def forward(self, x: Tensor) -> Tensor:
        total, pooled = None, x
        pyramid = []
        for scale, conv in enumerate(self.convs):
            if scale:
                if pooled.shape[-1] % 2 or pooled.shape[-2] % 2:
                    break
                pooled = F.avg_pool2d(pooled, 2)
            pyramid.append(conv(pooled))
        # From the coarsest up: the sum of upsampled maps is the upsampled sum.
        for level in reversed(pyramid):
            total = level if total is None else level + F.interpolate(total, scale_factor=2.0, mode="nearest")
        return total


def time_bumps(T: int, J: int) -> Tensor:
    """The bumps g_j(t) of (63) for t = 0..T: (T + 1, J) float32, rows sum to one.

    Gaussians in t whose centres τ_j are spaced evenly over [0, T] and whose width is that spacing, normalised over j.
    """
    centre = torch.linspace(0, T, J, dtype=torch.float64)
    spacing = T / max(J - 1, 1)
    t = torch.arange(T + 1, dtype=torch.float64)
    return torch.softmax(-((t[:, None] - centre) ** 2) / (2 * spacing**2), 1).float()


class TemporalReadout(nn.Module):
    """z^μ and z^Σ of every pixel: a linear map to 2J coefficients, summed against J bumps in t (62).

    The map and the sum are one linear map a step, Σ_j g_j(t) W_j; forming it first is J times cheaper.
    features (n, h, w, f), t (n,) or an integer; returns z^μ and z^Σ, (n, c, h, w) each.
    """

    def __init__(self, T: int, J: int, features: int, channels: int):
        super().__init__()
        self.register_buffer("bumps", time_bumps(T, J), persistent=False)
        self.weight = nn.Parameter(torch.zeros(J, features, 2 * channels))
        self.bias = nn.Parameter(torch.zeros(J, 2 * channels))

    def forward(self, features: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        n, h, w, f = features.shape
        g = self.bumps[t]
        weight, bias = torch.tensordot(g, self.weight, dims=1), torch.tensordot(g, self.bias, dims=1)
        z = features.reshape(n, h * w, f) @ weight + bias[..., None, :]
        return z.mT.reshape(n, 2, -1, h, w).unbind(1)


class ImageNetwork(nn.Module):
    """f_μ and f_Σ of an image.

    shape: (channels, height, width). mean: how z^μ and z^Σ give μ and Σ, a key of ``PARAMETERISATIONS``.
    conv_layers × conv_channels over ``scales`` scales with ``activation``; dense_layers × dense_units with tanh, then dense_channels
    values for each pixel; pixel_layers × pixel_units of 1×1 layers with tanh, which see both paths and the pixel itself.
    pixels: (m, channels) values of training pixels; the first 1×1 layer's units start as steps at such values, of widths from
    ``finest`` to one, because the noise levels of the chain span that range too.
    precision: dtype of the dense layers and of the convolutions after the first; the first, which must see differences far below
    one, and everything pointwise keep float32.
    """

    def __init__(
        self,
        T: int,
        shape: tuple[int, int, int],
        mean: str,
        bumps: int,
        conv_layers: int,
        conv_channels: int,
        scales: int,
        activation: str,
        dense_layers: int,
        dense_units: int,
        dense_channels: int,
        pixel_layers: int,
        pixel_units: int,
        precision: str,
        finest: float,
        pixels: Tensor,
        generator: torch.Generator,
    ):
        super().__init__()
        channels, height, width = shape
        self.shape, self.parameterisation = shape, PARAMETERISATIONS[mean]
        self.activation, self.precision = ACTIVATIONS[activation], getattr(torch, precision)
        sizes = [channels] + [conv_channels] * conv_layers
        self.convs = nn.ModuleList(MultiScaleConv(a, b, scales) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.dense = nn.ModuleList()
        if dense_layers:
            sizes = [math.prod(shape)] + [dense_units] * dense_layers + [dense_channels * height * width]
            self.dense.extend(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        features = channels + (conv_channels if conv_layers else 0) + (dense_channels if dense_layers else 0)
        sizes = [features] + [pixel_units] * pixel_layers
        self.pixel = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.readout = TemporalReadout(T, bumps, sizes[-1], channels)
        self._start(pixels, finest, generator)

    @torch.no_grad()
    def _start(self, pixels: Tensor, finest: float, generator: torch.Generator) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / fan_in**0.5)
                if layer.bias is not None:
                    layer.bias.zero_()
        if len(self.pixel):
            units, channels = len(self.pixel[0].weight), pixels.shape[1]
            direction = F.normalize(torch.randn(units, channels, generator=generator), dim=1)
            steepness = torch.exp(torch.linspace(0, math.log(1 / finest), units))[:, None]
            place = pixels[torch.randint(len(pixels), (units,), generator=generator)]
            self.pixel[0].weight[:, :channels] = steepness * direction
            self.pixel[0].bias.copy_(-(steepness * direction * place).sum(1))

    def features(self, xt: Tensor) -> Tensor:
        """What the readout sees: (n, c, h, w) to (n, h, w, f), float32; the same for every t."""
        seen = [xt.movedim(1, -1)]
        if len(self.convs):
            h = xt.contiguous(memory_format=torch.channels_last)
            for number, conv in enumerate(self.convs):
                low = number > 0 and self.precision != torch.float32
                with torch.autocast(xt.device.type, self.precision, enabled=low):
                    h = self.activation(conv(h))
            seen.append(h.float().movedim(1, -1))
        if len(self.dense):
            h = xt.flatten(1)
            with torch.autocast(xt.device.type, self.precision, enabled=self.precision != torch.float32):
                for layer in self.dense:
                    h = tanh(layer(h))
            seen.append(h.float().reshape(len(xt), *self.shape[1:], -1))
        h = torch.cat(seen, -1)
        for layer in self.pixel:
            h = tanh(layer(h))
        return h

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Normal:
        z_mu, z_sigma = self.readout(self.features(xt.float()), t)
        return self.parameterisation(kernel, xt, t, z_mu, z_sigma)


# ---------------------------------------------------------------- from z^μ, z^Σ to μ, Σ


def paper_parameterisation(kernel: GaussianKernel, xt: Tensor, t, z_mu: Tensor, z_sigma: Tensor) -> Normal:
    """Σ = sigmoid(z^Σ + logit β_t) (64), μ = (x − z^μ)(1 − Σ) + z^μ (65)."""
    var = torch.sigmoid(z_sigma + torch.logit(kernel.at(kernel.beta, t, xt)))
    return Normal((xt - z_mu) * (1 - var) + z_mu, var)


def reference_parameterisation(kernel: GaussianKernel, xt: Tensor, t, z_mu: Tensor, z_sigma: Tensor) -> Normal:
    """The authors' published program: Σ as (64), μ = x√(1−β_t) + z^μ√β_t."""
    beta = kernel.at(kernel.beta, t, xt)
    return Normal(xt * (1 - beta).sqrt() + z_mu * beta.sqrt(), torch.sigmoid(z_sigma + torch.logit(beta)))


def posterior_parameterisation(kernel: GaussianKernel, xt: Tensor, t, z_mu: Tensor, z_sigma: Tensor) -> Normal:
    """z^μ is the noise in x^t: μ is the mean of q(x^{t−1}|x^t, x̂^0) at x̂^0 = (x − √(1−ᾱ_t) z^μ)/√ᾱ_t, Σ its variance times exp(z^Σ).

    The divergence is then of order one in z at every t, whatever β_t.
    """
    left = kernel.at(kernel.one_minus_alpha_bar.sqrt(), t, xt)
    beta = kernel.at(kernel.beta, t, xt)
    # The same mean with x^0's and x^t's parts combined, which keeps float32 exact where 1−ᾱ_t is tiny.
    mean = (xt - beta / left * z_mu) / (1 - beta).sqrt()
    return Normal(mean, kernel.at(kernel.posterior_var, t, xt) * torch.exp(z_sigma.clamp(-10, 10)))


PARAMETERISATIONS = {
    "paper": paper_parameterisation,
    "reference": reference_parameterisation,
    "posterior": posterior_parameterisation,
}
