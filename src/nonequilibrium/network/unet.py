"""A modern network under the same kernels and the same bound: a small U-Net, beside the paper's,
never in its place.

What ten years changed about f_μ and f_Σ (Ronneberger et al. 2015; Ho et al. 2020; Dhariwal & Nichol
2021): residual blocks with group normalisation, halved and doubled resolutions with skip
connections, attention between places at the lowest of them, and a network that is told t, which
scales and shifts its maps. Called as ``network(kernel, xt, t)``, like the paper's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.kernels import GaussianKernel, Normal
from nonequilibrium.errors import ParameterError
from nonequilibrium.network.outputs import PARAMETERISATIONS
from nonequilibrium.network.precision import low_precision
from nonequilibrium.settings import completed

GROUP, HEAD = 16, 32  # channels that are normalised together, and of an attention head, at most


def normalisation(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // math.gcd(channels, GROUP), channels)


class ResidualBlock(nn.Module):
    """Twice normalise, SiLU, 3×3 convolution; in between, t scales and shifts each map. (n, a, y,
    x) to (n, b, y, x).
    """

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
    """Every place of the image looks at every other, in heads; added to what came in. (n, a, y, x)
    to the same.
    """

    def __init__(self, a: int):
        super().__init__()
        self.norm, self.heads = normalisation(a), a // math.gcd(a, HEAD)
        self.query_key_value, self.out = nn.Conv2d(a, 3 * a, 1), nn.Conv2d(a, a, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor) -> Tensor:
        n, a, y, x = h.shape
        q, k, v = (
            self.query_key_value(self.norm(h)).reshape(n, 3, self.heads, -1, y * x).mT.unbind(1)
        )
        seen = F.scaled_dot_product_attention(q, k, v)
        return h + self.out(seen.mT.reshape(n, a, y, x))


class UNet(nn.Module):
    """f_μ and f_Σ of an image, with t as an input.

    The image is seen as it is and through differences between a pixel and its neighbours in units
    of the noise at t, asinh(d/√(1−ᾱ_t)): at small t they are what tells noise from image, and far
    too small to be seen otherwise.

    Where ``waves`` are asked for it also sees where a pixel lies between two grey levels, as
    ``grey_waves``.

    Sizes and choices: ``channels`` maps at full resolution, twice and then four times as many below
        but at most ``widest`` times, ``levels`` resolutions, ``blocks`` residual blocks at each on
        the way down (one more on the way up); what it sees: t where ``told_t``, ``differences``,
        ``waves``; ``attention``; and ``mean``, ``precision`` as the paper's network has them.
    shape: (channels, height, width), divisible by 2^(levels − 1).
    constants: (2,) mean and σ of a pixel in grey levels, by which the data are shifted and scaled;
    filled in when they are known.
    """

    constants: Tensor

    defaults: ClassVar[dict[str, Any]] = {
        "channels": 48,
        "levels": 3,
        "blocks": 1,
        "widest": 4,
        "told_t": True,
        "differences": True,
        "waves": 0,
        "attention": True,
        "mean": "velocity",
        "precision": "bfloat16",
    }

    def __init__(
        self, shape: tuple[int, int, int], generator: torch.Generator, constants: Tensor, **sizes
    ):
        super().__init__()
        p = completed(self.defaults, sizes)
        self.register_buffer("constants", constants, persistent=False)
        halvings, (_, height, width) = p.levels - 1, shape
        if height % 2**halvings or width % 2**halvings:
            raise ParameterError(
                f"levels is {p.levels}; an image of {height} × {width} cannot be halved so often: "
                f"its sides must be multiples of {2**halvings}"
            )
        self.shape, self.parameterisation = shape, PARAMETERISATIONS[p.mean]
        self.precision = getattr(torch, p.precision)
        widths = [p.channels * min(2**level, p.widest) for level in range(p.levels)]
        embedding = 2 * p.channels
        self.differences = (
            nn.Conv2d(shape[0], 8 * shape[0], 3, padding=1, bias=False) if p.differences else None
        )
        self.time = nn.Sequential(
            nn.Linear(FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.told_t, self.waves = p.told_t, p.waves
        sees = 1 + 8 * p.differences + 2 * p.waves  # maps for each channel
        self.first = nn.Conv2d(sees * shape[0], widths[0], 3, padding=1)
        self.down, self.up, skips, width = nn.ModuleList(), nn.ModuleList(), [widths[0]], widths[0]
        for level, its in enumerate(widths):
            for _ in range(p.blocks):
                self.down.append(ResidualBlock(width, its, embedding))
                skips.append(width := its)
            if level < p.levels - 1:
                self.down.append(nn.AvgPool2d(2))
                skips.append(width)
        self.middle = nn.ModuleList([ResidualBlock(width, width, embedding)])
        if p.attention:
            self.middle.append(Attention(width))
        for level, its in reversed(list(enumerate(widths))):
            for _ in range(p.blocks + 1):
                self.up.append(ResidualBlock(width + skips.pop(), its, embedding))
                width = its
            if level:
                self.up.append(nn.Upsample(scale_factor=2.0, mode="nearest"))
        self.norm, self.readout = (
            normalisation(width),
            nn.Conv2d(width, 2 * shape[0], 3, padding=1),
        )
        self._start(generator)

    @torch.no_grad()
    def _start(self, generator: torch.Generator) -> None:
        """Random weights from ``generator``, zero where a branch or the result is added: z = 0 and
        K = L_null at the start.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                if layer.weight.any():
                    layer.weight.copy_(
                        torch.randn(layer.weight.shape, generator=generator)
                        / layer.weight[0].numel() ** 0.5
                    )
                if layer.bias is not None:
                    layer.bias.zero_()
        self.readout.weight.zero_()
        self.eval()  # training alone computes in low precision, and says so
        if self.differences is None:
            return
        # A pixel minus each of its eight neighbours, in each colour.
        self.differences.weight.zero_()
        places = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
        for each in range(len(self.differences.weight)):
            colour, (y, x) = each // 8, places[each % 8]
            self.differences.weight[each, colour, 1, 1] = 1
            self.differences.weight[each, colour, y, x] = -1

    def seen(self, kernel: GaussianKernel, xt: Tensor, t: Tensor) -> Tensor:
        """What the first convolution gets: the image and, where asked for, its differences and its
        waves, (n, maps, h, w) float32.
        """
        x = xt.float().contiguous(memory_format=torch.channels_last)
        noise = kernel.at(kernel.one_minus_alpha_bar.sqrt(), t, x)
        parts = [x] if self.differences is None else [x, torch.asinh(self.differences(x) / noise)]
        if self.waves:
            mean, sigma = self.constants.to(x.dtype)
            root = kernel.at(kernel.alpha_bar.sqrt(), t, x)
            parts += grey_waves(x / root * sigma + mean, noise / root * sigma, self.waves)
        return torch.cat(parts, 1)

    def z(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Tensor:
        """z^μ and then z^Σ of every pixel: (n, 2c, h, w), float32."""
        t = torch.as_tensor(t, device=xt.device).expand(len(xt))
        time = self.time(time_features(kernel, t).float() * self.told_t)
        seen = self.seen(kernel, xt, t)
        with low_precision(xt.device.type, self.precision, self.training):
            h = self.maps(seen, time)
        return self.readout(h.float())

    def maps(self, seen: Tensor, time: Tensor) -> Tensor:
        """The maps from which z is read, (n, channels, h, w), from what is seen and from t, (n,
        embedding): all that is costly.
        """
        h = self.first(seen)
        skips = [h]
        for layer in self.down:
            h = layer(h, time) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, time) if isinstance(layer, ResidualBlock) else layer(h)
        for layer in self.up:
            h = (
                layer(torch.cat([h, skips.pop()], 1), time)
                if isinstance(layer, ResidualBlock)
                else layer(h)
            )
        return F.silu(self.norm(h))

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Normal:
        return self.parameterisation(kernel, xt, t, *self.z(kernel, xt, t).chunk(2, 1))


def grey_waves(grey: Tensor, noise: Tensor, waves: int) -> list[Tensor]:
    """Sine and cosine of 2πf · grey for f = 1..waves, each as high as noise leaves of it: 2 · waves
    tensors like ``grey``.

    The data's noise is uniform within a grey level, so that their density jumps at whole ``grey``.
    At small t a network that sees these waves can tell on which side of a jump a pixel lies. noise:
    σ of x^t in grey levels; the mean of a wave under it is exp(−(2πf · noise)²/2) times as high,
    and so it vanishes where it would tell nothing.
    """
    parts = []
    for f in range(1, waves + 1):
        height = torch.exp(-0.5 * (2 * math.pi * f * noise) ** 2)
        angle = 2 * math.pi * f * grey
        parts += [height * angle.sin(), height * angle.cos()]
    return parts


FREQUENCIES = 16


def time_features(kernel: GaussianKernel, t: Tensor) -> Tensor:
    """ℓ = ½ log(ᾱ_t/(1−ᾱ_t)), half the log signal-to-noise ratio, in sines and cosines of slow to
    fast: (n,) to (n, FREQUENCIES).
    """
    ell = 0.5 * (kernel.alpha_bar[t].log() - kernel.one_minus_alpha_bar[t].log())
    angle = ell[:, None] * torch.exp(
        torch.linspace(math.log(0.1), math.log(3.0), FREQUENCIES // 2, device=t.device)
    )
    return torch.cat([angle.sin(), angle.cos()], 1)
