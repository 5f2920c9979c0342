"""The networks of the image experiments (Appendix D.2): f_μ and f_Σ of whole images, called as
``network(kernel, xt, t)`` with xt (n, c, h, w) and t (n,) or an integer.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.network import start
from nonequilibrium.network.outputs import PARAMETERISATIONS, Shape, Step
from nonequilibrium.network.precision import PRECISIONS, low_precision
from nonequilibrium.settings import chosen, completed


def tanh(x: Tensor) -> Tensor:
    """2 sigmoid(2x) − 1, which torch computes several times faster on a CPU than its own tanh."""
    return torch.add(x.new_full((), -1.0), torch.sigmoid(2 * x), alpha=2)


ACTIVATIONS = {"softplus": F.softplus, "leaky_relu": F.leaky_relu, "tanh": tanh}


class MultiScaleConv(nn.Module):
    """Mean-pool by powers of two that divide the image, convolve, upsample and sum (D.2.1)."""

    def __init__(self, channels: int, out: int, scales: int):
        super().__init__()
        first = (scale == 0 for scale in range(scales))  # whose bias serves the sum
        self.convs = nn.ModuleList(nn.Conv2d(channels, out, 3, padding=1, bias=b) for b in first)

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
    """The bumps g_j(t) of (63) for t = 0..T: (T + 1, J) float32, normalised over j."""
    centre = torch.linspace(0, T, J, dtype=torch.float64)
    spacing = T / max(J - 1, 1)
    t = torch.arange(T + 1, dtype=torch.float64)
    return torch.softmax(-((t[:, None] - centre) ** 2) / (2 * spacing**2), 1).float()


class TemporalReadout(nn.Module):
    """z^μ and z^Σ of every pixel, linear in its features with coefficients Σ_j g_j(t) W_j (62):
    (n, h, w, f) and t to two of (n, c, h, w).
    """

    bumps: Tensor

    def __init__(self, T: int, J: int, features: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(J, features, 2 * channels))
        self.bias = nn.Parameter(torch.zeros(J, 2 * channels))
        self.register_buffer("bumps", time_bumps(T, J), persistent=False)

    def forward(self, features: Tensor, t: Step) -> tuple[Tensor, ...]:
        n, h, w, f = features.shape
        g = self.bumps[t]
        weight, bias = (torch.tensordot(g, part, dims=1) for part in (self.weight, self.bias))
        z = features.reshape(n, h * w, f) @ weight + bias[..., None, :]
        return z.mT.contiguous().reshape(n, 2, -1, h, w).unbind(1)


class ImageNetwork(nn.Module):
    """A convolutional path, a dense path or both; then 1×1 layers; then coefficients of bumps.

    plain: as the appendix states it, from random weights; else 1×1 layers also see x^t and first
        maps, some units start as steps at pixels, and the readout sees a dense path without tanh.
    dense_channels: values per pixel of the dense path, which also reach the readout.
    precision: in training, of the dense path and the convolutions after the first.
    pixels: (m, channels) training pixels, at which steps of the first 1×1 layer start.
    """

    defaults = (
        {"n_steps": 1000, "beta_1": 1e-6, "bumps": 16, "mean": "velocity", "precision": "bfloat16"}
        | {"conv_layers": 4, "conv_channels": 32, "scales": 3, "activation": "softplus"}
        | {"dense_layers": 0, "dense_units": 256, "dense_channels": 4}
        | {"pixel_layers": 1, "pixel_units": 48, "plain": False}
    )

    def __init__(self, shape: Shape, generator: Generator, pixels: Tensor, **sizes):
        super().__init__()
        p = completed(self.defaults, sizes)
        self.shape, (channels, height, width) = shape, shape
        self.parameterisation = chosen("mean", p.mean, PARAMETERISATIONS)
        self.activation = chosen("activation", p.activation, ACTIVATIONS)
        self.precision = chosen("precision", p.precision, PRECISIONS)
        self.convs, self.dense, self.plain = nn.ModuleList(), nn.ModuleList(), p.plain
        features = 0 if p.plain else channels
        if p.conv_layers:
            widths = [channels] + [p.conv_channels] * p.conv_layers
            self.convs.extend(MultiScaleConv(a, b, p.scales) for a, b in pairwise(widths))
            features += (1 if p.plain else 2) * p.conv_channels
        if p.dense_layers:
            widths = [channels * height * width] + [p.dense_units] * p.dense_layers
            widths += [p.dense_channels * height * width]
            self.dense.extend(nn.Linear(a, b) for a, b in pairwise(widths))
            features += p.dense_channels
        widths = [features] + [p.pixel_units] * p.pixel_layers
        self.pixel = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.values_go_on = bool(
            p.dense_layers and p.pixel_layers and not p.plain
        )  # to the readout
        seen = widths[-1] + (p.dense_channels if self.values_go_on else 0)
        self.readout = TemporalReadout(p.n_steps, p.bumps, seen, channels)
        self._start(pixels, 2 * p.beta_1**0.5, generator)
        self.eval()  # low precision is for training, which says so

    @torch.no_grad()
    def _start(self, pixels: Tensor, finest: float, generator: Generator) -> None:
        start.random_weights(self, generator)
        if self.plain:
            return
        convs, pixel, dense = (list[Any](part) for part in (self.convs, self.pixel, self.dense))
        maps = start.differences(convs[0].convs, generator) if convs else 0
        if pixel:
            weight, bias = pixel[0].weight, pixel[0].bias
            fine = len(weight) * 3 // 4 if maps else 0
            start.steps_at_pixels(weight[fine:], bias[fine:], pixels, finest, generator)
            if fine:
                where = slice(self.shape[0], self.shape[0] + maps)
                start.steps_at_differences(weight[:fine], bias[:fine], where, generator)
        if dense:
            values = dense[-1].out_features // math.prod(self.shape[1:])
            start.dense_values_are_z(dense, values, self.readout.weight)

    def features(self, xt: Tensor) -> Tensor:
        """What the readout sees, the same at every t: (n, c, h, w) to (n, h, w, f), float32."""
        seen = [] if self.plain else [xt.movedim(1, -1)]
        if len(self.convs):
            maps = self.convs[0](xt.contiguous(memory_format=torch.channels_last))
            if not self.plain:
                seen.append(maps.movedim(1, -1))
            h = self.activation(maps)
            with low_precision(self, xt):
                for conv in self.convs[1:]:
                    h = self.activation(conv(h))
            seen.append(h.float().movedim(1, -1))
        if len(self.dense):
            h = xt.flatten(1)
            with low_precision(self, xt):
                for layer in self.dense[:-1]:
                    h = tanh(layer(h))
                h = self.dense[-1](h)
                h = tanh(h) if self.plain else h
            seen.append(h.float().reshape(len(xt), *self.shape[1:], -1))
        h = torch.cat(seen, -1)
        for layer in self.pixel:
            h = tanh(layer(h))
        return torch.cat([h, seen[-1]], -1) if self.values_go_on else h

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Step) -> Normal:
        return self.parameterisation(kernel, xt, t, *self.readout(self.features(xt.float()), t))


class SplitNetwork(nn.Module):
    """Two networks, of the t whose noise √((1−ᾱ_t)/ᾱ_t) is at most ``split`` and of the others; one
    if it is 0. Features shared by all t serve small noise alone, where nearly all of K lies.
    """

    second = {"dense_layers_above": 0, "pixel_layers_above": 0}
    defaults = ImageNetwork.defaults | {"split": 0.0} | second

    def __init__(self, shape: Shape, generator: Generator, pixels: Tensor, **sizes):
        super().__init__()
        below = vars(completed(self.defaults, sizes))
        self.shape, self.split = shape, below.pop("split")
        self.is_split = bool(self.split)
        above = {name.removesuffix("_above"): below.pop(name) for name in self.second}
        self.networks = nn.ModuleList(
            ImageNetwork(shape, generator, pixels, **layers)
            for layers in [below, below | above][: 1 + self.is_split]
        )

    def above(self, kernel: GaussianKernel) -> Tensor:
        """Which steps t = 0..T the second network has, (T + 1,) bool."""
        return (kernel.one_minus_alpha_bar > self.split**2 * kernel.alpha_bar) & self.is_split

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Step) -> Normal:
        if not self.is_split:
            return self.networks[0](kernel, xt, t)
        above = self.above(kernel)[t]
        if isinstance(t, int) or above.all() or not above.any():
            return self.networks[int(above.any())](kernel, xt, t)
        rows = [torch.nonzero(above == second)[:, 0].to(xt.device) for second in (False, True)]
        t = t.to(xt.device)
        parts = [self.networks[i](kernel, xt[row], t[row]) for i, row in enumerate(rows)]
        back = torch.argsort(torch.cat(rows))
        return Normal(*(torch.cat(values)[back] for values in zip(*parts, strict=True)))
