"""The networks of the image experiments (Appendix D.2): f_μ and f_Σ for whole images.

A convolutional path (multi-scale convolutions), a dense path (the whole image), or both; then 1×1
layers with tanh; then, for each pixel, coefficients of J bumps in time (62), (63). Like the toy
networks it is called as ``network(kernel, xt, t)`` with xt (n, c, h, w) and t (n,), returns the
parameters of p(x^{t−1}|x^t), and knows nothing of bounds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.network.outputs import PARAMETERISATIONS
from nonequilibrium.network.precision import low_precision
from nonequilibrium.network.start import (
    dense_values_are_z,
    differences,
    steps_at_differences,
    steps_at_pixels,
)
from nonequilibrium.settings import completed


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent as 2 sigmoid(2x) − 1, which torch computes several times faster on a
    CPU than its own.
    """
    return torch.add(x.new_full((), -1.0), torch.sigmoid(2 * x), alpha=2)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": F.softplus,
    "leaky_relu": F.leaky_relu,
    "tanh": tanh,
}


class MultiScaleConv(nn.Module):
    """Mean-pool by powers of two, convolve each scale, upsample and sum (D.2.1): (n, c, h, w) to
    (n, out, h, w).

    The one nonlinearity follows the sum and is not applied here. Scales that do not divide the
    image are left out.
    """

    def __init__(self, channels: int, out: int, scales: int, width: int = 3):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, out, width, padding=width // 2, bias=scale == 0)
            for scale in range(scales)
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled, pyramid = x, []
        for scale, conv in enumerate(self.convs):
            if scale:
                if pooled.shape[-1] % 2 or pooled.shape[-2] % 2:
                    break
                pooled = F.avg_pool2d(pooled, 2)
            pyramid.append(conv(pooled))
        # From the coarsest up: the sum of upsampled maps is the upsampled sum.
        total = pyramid.pop()
        for level in reversed(pyramid):
            total = level + F.interpolate(total, scale_factor=2.0, mode="nearest")
        return total


def time_bumps(T: int, J: int) -> Tensor:
    """The bumps g_j(t) of (63) for t = 0..T: (T + 1, J) float32, rows sum to one.

    Gaussians in t whose centres τ_j are spaced evenly over [0, T] and whose width is that spacing,
    normalised over j.
    """
    centre = torch.linspace(0, T, J, dtype=torch.float64)
    spacing = T / max(J - 1, 1)
    t = torch.arange(T + 1, dtype=torch.float64)
    return torch.softmax(-((t[:, None] - centre) ** 2) / (2 * spacing**2), 1).float()


class TemporalReadout(nn.Module):
    """z^μ and z^Σ of every pixel: a linear map to 2J coefficients, summed against J bumps in t
    (62).

    The map and the sum are one linear map a step, Σ_j g_j(t) W_j; forming it first is J times
    cheaper. features (n, h, w, f), t (n,) or an integer; returns z^μ and z^Σ, (n, c, h, w) each.
    """

    bumps: Tensor

    def __init__(self, T: int, J: int, features: int, channels: int):
        super().__init__()
        self.register_buffer("bumps", time_bumps(T, J), persistent=False)
        self.weight = nn.Parameter(torch.zeros(J, features, 2 * channels))
        self.bias = nn.Parameter(torch.zeros(J, 2 * channels))

    def forward(self, features: Tensor, t: Tensor | int) -> tuple[Tensor, Tensor]:
        n, h, w, f = features.shape
        g = self.bumps[t]
        weight, bias = (
            torch.tensordot(g, self.weight, dims=1),
            torch.tensordot(g, self.bias, dims=1),
        )
        z = features.reshape(n, h * w, f) @ weight + bias[..., None, :]
        # Pixel after pixel, as everything pointwise likes it.
        return z.mT.contiguous().reshape(n, 2, -1, h, w).unbind(1)


class ImageNetwork(nn.Module):
    """f_μ and f_Σ of an image.

    Sizes and choices: conv_layers × conv_channels over ``scales`` scales with ``activation``;
        dense_layers × dense_units with tanh, then dense_channels values for each pixel, linear in
        the last layer's units; pixel_layers × pixel_units of 1×1 layers with tanh, which see both
        paths, the first convolution's maps and the pixel itself; ``bumps`` in time, whose
        coefficients are linear in the 1×1 units and the dense path's values; ``mean``, a key of
        ``PARAMETERISATIONS``; ``precision``, the dtype of the dense layers and of the convolutions
        after the first: the first, which must see differences far below one, and everything
        pointwise keep float32.
    shape: (channels, height, width). pixels: (m, channels) values of training pixels, where steps
    of the first 1×1 layer start.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "n_steps": 1000,
        "beta_1": 1e-6,
        "bumps": 16,
        "conv_layers": 4,
        "conv_channels": 32,
        "scales": 3,
        "activation": "softplus",
        "dense_layers": 0,
        "dense_units": 256,
        "dense_channels": 4,
        "pixel_layers": 1,
        "pixel_units": 48,
        "mean": "velocity",
        "precision": "bfloat16",
    }

    def __init__(
        self,
        shape: tuple[int, int, int],
        pixels: Tensor,
        generator: torch.Generator,
        **sizes,
    ):
        super().__init__()
        p = completed(self.defaults, sizes)
        channels, height, width = shape
        self.shape, self.parameterisation = shape, PARAMETERISATIONS[p.mean]
        self.activation, self.precision = ACTIVATIONS[p.activation], getattr(torch, p.precision)
        features = channels
        self.convs, self.dense = nn.ModuleList(), nn.ModuleList()
        if p.conv_layers:
            widths = [channels] + [p.conv_channels] * p.conv_layers
            self.convs.extend(MultiScaleConv(a, b, p.scales) for a, b in itertools.pairwise(widths))
            features += 2 * p.conv_channels
        if p.dense_layers:
            widths = [math.prod(shape)] + [p.dense_units] * p.dense_layers
            widths += [p.dense_channels * height * width]
            self.dense.extend(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
            features += p.dense_channels
        widths = [features] + [p.pixel_units] * p.pixel_layers
        self.pixel = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.values_go_on = bool(
            p.dense_layers and p.pixel_layers
        )  # past the 1×1 layers, to the readout
        seen = widths[-1] + (p.dense_channels if self.values_go_on else 0)
        self.readout = TemporalReadout(p.n_steps, p.bumps, seen, channels)
        self._start(pixels, 2 * p.beta_1**0.5, generator)

    @torch.no_grad()
    def _start(self, pixels: Tensor, finest: float, generator: torch.Generator) -> None:
        """Initial weights: random, but for units that see fine differences, which gradient ascent
        is slow to find.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(
                    torch.randn(layer.weight.shape, generator=generator) / fan_in**0.5
                )
                if layer.bias is not None:
                    layer.bias.zero_()
        maps = (
            differences(
                cast(Sequence[nn.Conv2d], cast(MultiScaleConv, self.convs[0]).convs), generator
            )
            if len(self.convs)
            else 0
        )
        if len(self.pixel):
            first = cast(nn.Linear, self.pixel[0])
            fine = len(first.weight) * 3 // 4 if maps else 0
            steps_at_pixels(first.weight[fine:], first.bias[fine:], pixels, finest, generator)
            if fine:
                where = slice(self.shape[0], self.shape[0] + maps)
                steps_at_differences(first.weight[:fine], first.bias[:fine], where, generator)
        if len(self.dense):
            dense = cast(Sequence[nn.Linear], self.dense)
            values = dense[-1].out_features // math.prod(self.shape[1:])
            dense_values_are_z(dense, values, self.readout.weight)
        self.eval()  # training alone computes in low precision, and says so

    def features(self, xt: Tensor) -> Tensor:
        """What the readout sees: (n, c, h, w) to (n, h, w, f), float32; the same for every t."""
        seen = [xt.movedim(1, -1)]
        if len(self.convs):
            maps = self.convs[0](xt.contiguous(memory_format=torch.channels_last))
            seen.append(maps.movedim(1, -1))
            h = self.activation(maps)
            with low_precision(xt.device.type, self.precision, self.training):
                for conv in self.convs[1:]:
                    h = self.activation(conv(h))
            seen.append(h.float().movedim(1, -1))
        if len(self.dense):
            h = xt.flatten(1)
            with low_precision(xt.device.type, self.precision, self.training):
                for layer in self.dense[:-1]:
                    h = tanh(layer(h))
                h = self.dense[-1](h)
            seen.append(h.float().reshape(len(xt), *self.shape[1:], -1))
        h = torch.cat(seen, -1)
        for layer in self.pixel:
            h = tanh(layer(h))
        return torch.cat([h, seen[-1]], -1) if self.values_go_on else h

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Normal:
        z_mu, z_sigma = self.readout(self.features(xt.float()), t)
        return self.parameterisation(kernel, xt, t, z_mu, z_sigma)


class SplitNetwork(nn.Module):
    """Two networks: one for the steps t whose noise σ_t = √((1−ᾱ_t)/ᾱ_t) is at most ``split``, one
    for those above.

    Called like ``ImageNetwork``, of which it has two, each with its own features; the paper shares
    them among all t. With K as the objective shared features serve small noise, where nearly all of
    K lies, and leave little for the steps in which an image takes shape. With a split of 0 there is
    one network for every t.
    """

    defaults: ClassVar[dict[str, Any]] = ImageNetwork.defaults | {
        "split": 0.0,
        "dense_layers_above": 0,
        "pixel_layers_above": 0,
    }

    def __init__(
        self,
        shape: tuple[int, int, int],
        pixels: Tensor,
        generator: torch.Generator,
        **sizes,
    ):
        super().__init__()
        p = vars(completed(self.defaults, sizes))
        layers = {
            name.removesuffix("_above"): p.pop(name)
            for name in ("dense_layers_above", "pixel_layers_above")
        }
        self.shape, self.split = shape, p.pop("split")
        self.networks = nn.ModuleList(
            ImageNetwork(shape, pixels, generator, **each)
            for each in ([p, p | layers] if self.split else [p])
        )

    def above(self, kernel: GaussianKernel) -> Tensor:
        """Which steps t = 0..T the second network has, (T + 1,) bool."""
        noisy = kernel.one_minus_alpha_bar > self.split**2 * kernel.alpha_bar
        return noisy & self.is_split

    @property
    def is_split(self) -> bool:
        """Whether there are two networks."""
        return len(self.networks) > 1

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Normal:
        if not self.is_split:
            return self.networks[0](kernel, xt, t)
        above = self.above(kernel)[t]
        if isinstance(t, int) or above.all() or not above.any():
            return self.networks[int(above.any())](kernel, xt, t)
        rows = [torch.nonzero(above == second)[:, 0] for second in (False, True)]
        parts = [
            network(kernel, xt[row.to(xt.device)], t[row.to(t.device)])
            for network, row in zip(self.networks, rows, strict=True)
        ]
        back = torch.argsort(torch.cat(rows)).to(xt.device)
        return Normal(*(torch.cat(values)[back] for values in zip(*parts, strict=True)))


# ---------------------------------------------------------------- how a network starts
