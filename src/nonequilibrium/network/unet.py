"""A small U-Net under the same kernels and the same bound, beside the paper's network: what ten
years changed about f_μ and f_Σ (Ronneberger et al. 2015; Ho et al. 2020; Dhariwal & Nichol 2021).
"""

import math
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.errors import ParameterError
from nonequilibrium.network.outputs import PARAMETERISATIONS, Shape, Step
from nonequilibrium.network.precision import PRECISIONS, low_precision
from nonequilibrium.network.start import random_weights
from nonequilibrium.settings import chosen, completed

GROUP, HEAD = 16, 32  # most channels that are normalised together, and of an attention head
FREQUENCIES = 16  # features of the signal-to-noise ratio


def normalisation(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // math.gcd(channels, GROUP), channels)


class ResidualBlock(nn.Module):
    """Twice normalisation, SiLU, convolution; t scales and shifts the maps in between."""

    def __init__(self, a: int, b: int, embedding: int):
        super().__init__()
        self.norm_1, self.conv_1 = normalisation(a), nn.Conv2d(a, b, 3, padding=1)
        self.norm_2, self.conv_2 = normalisation(b), nn.Conv2d(b, b, 3, padding=1)
        self.time = nn.Linear(embedding, 2 * b)
        self.skip = nn.Conv2d(a, b, 1) if a != b else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time)[:, :, None, None].chunk(2, 1)
        inner = self.conv_1(F.silu(self.norm_1(h)))
        inner = torch.addcmul(shift, self.norm_2(inner), 1 + scale)
        return self.skip(h) + self.conv_2(F.silu(inner))


class Attention(nn.Module):
    """Multi-head attention between all places of an image, added to it: (n, a, y, x)."""

    def __init__(self, a: int):
        super().__init__()
        self.norm, self.heads = normalisation(a), a // math.gcd(a, HEAD)
        self.query_key_value, self.out = nn.Conv2d(a, 3 * a, 1), nn.Conv2d(a, a, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor) -> Tensor:
        n, a, y, x = h.shape
        projected = self.query_key_value(self.norm(h))
        q, k, v = projected.reshape(n, 3, self.heads, -1, y * x).mT.unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v)
        return h + self.out(seen.mT.reshape(n, a, y, x))


class UNet(nn.Module):
    """f_μ and f_Σ of an image, with t as an input.

    channels: maps at full resolution, doubled at each lower one of the ``levels`` up to ``widest``
    times as many. blocks: per level, one more on the way up. differences: of neighbouring pixels,
    asinh(d/√(1−ᾱ_t)). waves: see ``grey_waves``. constants: (2,) mean and σ of a pixel in greys.
    """

    constants: Tensor
    defaults = (
        {"channels": 48, "levels": 3, "blocks": 1, "widest": 4, "attention": True}
        | {"told_t": True, "differences": True, "waves": 0}
        | {"mean": "velocity", "precision": "bfloat16"}
    )

    def __init__(self, shape: Shape, generator: Generator, constants: Tensor, **sizes):
        super().__init__()
        p = completed(self.defaults, sizes)
        self.register_buffer("constants", constants, persistent=False)
        self.shape, (colours, height, width), multiple = shape, shape, 2 ** (p.levels - 1)
        if height % multiple or width % multiple:
            sides = f"the sides of an image, {height} × {width}, must be multiples of {multiple}"
            raise ParameterError(f"levels is {p.levels}; {sides}")
        self.parameterisation = chosen("mean", p.mean, PARAMETERISATIONS)
        self.precision = chosen("precision", p.precision, PRECISIONS)
        self.told_t, self.waves = p.told_t, p.waves
        conv = partial(nn.Conv2d, kernel_size=3, padding=1)
        self.differences = conv(colours, 8 * colours, bias=False) if p.differences else None
        a, e = p.channels, 2 * p.channels  # maps so far, and the embedding of t
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.first = conv((1 + 8 * p.differences + 2 * p.waves) * colours, a)
        widths = [p.channels * min(2**level, p.widest) for level in range(p.levels)]
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [a]
        for level, b in enumerate(widths):
            if level:
                self.down.append(nn.AvgPool2d(2))
                skips.append(a)
            for _ in range(p.blocks):
                self.down.append(ResidualBlock(a, b, e))
                skips.append(a := b)
        self.middle = nn.ModuleList([ResidualBlock(a, a, e)])
        if p.attention:
            self.middle.append(Attention(a))
        for level, b in reversed(list(enumerate(widths))):
            for _ in range(p.blocks + 1):
                self.up.append(ResidualBlock(a + skips.pop(), b, e))
                a = b
            if level:
                self.up.append(nn.Upsample(scale_factor=2.0, mode="nearest"))
        self.norm, self.readout = normalisation(a), conv(a, 2 * colours)
        with torch.no_grad():  # zero wherever a branch or the result is added: K is L_null
            random_weights(self, generator)
            self.readout.weight.zero_()
            if self.differences is not None:  # a pixel minus each of its eight neighbours
                near = (torch.arange(9) == 4).float() - torch.eye(9)
                near = torch.block_diag(*[near[near.any(1)]] * colours)
                self.differences.weight.copy_(near.view_as(self.differences.weight))
        self.eval()  # low precision is for training, which says so

    def seen(self, kernel: GaussianKernel, xt: Tensor, t: Tensor) -> Tensor:
        """The image, its differences and its waves: (n, maps, h, w) float32."""
        x = xt.float().contiguous(memory_format=torch.channels_last)
        noise = kernel.at(kernel.one_minus_alpha_bar.sqrt(), t, x)
        parts = [x] if self.differences is None else [x, torch.asinh(self.differences(x) / noise)]
        if self.waves:
            mean, sigma = self.constants.to(x.dtype)
            root = kernel.at(kernel.alpha_bar.sqrt(), t, x)
            parts += grey_waves(x / root * sigma + mean, noise / root * sigma, self.waves)
        return torch.cat(parts, 1)

    def z(self, kernel: GaussianKernel, xt: Tensor, t: Step) -> Tensor:
        """z^μ and then z^Σ of every pixel: (n, 2c, h, w), float32."""
        t = torch.as_tensor(t, device=xt.device).expand(len(xt))
        time = self.time(time_features(kernel, t).float() * self.told_t)
        seen = self.seen(kernel, xt, t)
        with low_precision(self, xt):
            h = self.maps(seen, time)
        return self.readout(h.float())

    def maps(self, seen: Tensor, time: Tensor) -> Tensor:
        """The maps from which z is read, (n, channels, h, w), given t as (n, embedding)."""
        skips = [h := self.first(seen)]
        for layer in self.down:
            skips.append(h := layer(h, time) if isinstance(layer, ResidualBlock) else layer(h))
        for layer in self.middle:
            h = layer(h, time) if isinstance(layer, ResidualBlock) else layer(h)
        for layer in self.up:
            block = isinstance(layer, ResidualBlock)
            h = layer(torch.cat([h, skips.pop()], 1), time) if block else layer(h)
        return F.silu(self.norm(h))

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Step) -> Normal:
        return self.parameterisation(kernel, xt, t, *self.z(kernel, xt, t).chunk(2, 1))


def grey_waves(grey: Tensor, noise: Tensor, waves: int) -> list[Tensor]:
    """Sine and cosine of 2πf · grey, f = 1..waves, shrunk as noise of this σ shrinks their means;
    at small t they tell on which side of a whole grey, where densities jump, a pixel lies.
    """
    parts = []
    for f in range(1, waves + 1):
        height = torch.exp(-0.5 * (2 * math.pi * f * noise) ** 2)
        angle = 2 * math.pi * f * grey
        parts += [height * angle.sin(), height * angle.cos()]
    return parts


def time_features(kernel: GaussianKernel, t: Tensor) -> Tensor:
    """½ log(ᾱ_t/(1−ᾱ_t)) in sines and cosines of slow to fast: (n,) to (n, FREQUENCIES)."""
    ell = 0.5 * (kernel.alpha_bar[t].log() - kernel.one_minus_alpha_bar[t].log())
    slow, fast = math.log(0.1), math.log(3.0)
    angle = ell[:, None] * torch.exp(torch.linspace(slow, fast, FREQUENCIES // 2, device=t.device))
    return torch.cat([angle.sin(), angle.cos()], 1)
