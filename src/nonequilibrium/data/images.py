"""Images as models take them, and the paper's preprocessing (footnote 3): each uint8 pixel gets
uniform noise of one grey level, without which the bound rewards learning the 8-bit grid, and two
constants of the training set shift and scale it to mean 0 and variance 1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class ImageSet(NamedTuple):
    """train and test: (n, channels, height, width) uint8. levels: grey levels of a pixel."""

    train: Tensor
    test: Tensor
    title: str
    levels: int = 256


class Pictures(NamedTuple):
    """train and test: (c, h, w) each, of any sizes. source: the title in a word."""

    train: list[Tensor]
    test: list[Tensor]
    title: str
    source: str = "own"


class Scale(NamedTuple):
    """x = (pixel + u − mean)/sigma, u uniform on [0, 1), by the moments of training pixels + u."""

    mean: float
    sigma: float

    @classmethod
    def of(cls, train: Tensor) -> "Scale":
        """The constants of training images (n, c, h, w) uint8; u has mean 1/2 and variance 1/12."""
        counts = torch.bincount(train.flatten().int(), minlength=256).double()
        level = torch.arange(256, dtype=torch.float64)
        mean = float((counts * level).sum() / counts.sum())
        var = float((counts * (level - mean).square()).sum() / counts.sum())
        return cls(mean + 0.5, math.sqrt(var + 1 / 12))

    def dequantise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 images to x^0, float32 of the same shape, on their device."""
        x0 = torch.rand(images.shape, generator=generator, device=images.device)
        return x0.add_(images).sub_(self.mean).div_(self.sigma)

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest x^0 that a pixel can have."""
        return (0 - self.mean) / self.sigma, (256 - self.mean) / self.sigma

    def to_pixels(self, x: Tensor) -> Tensor:
        """x to uint8 pixels, clipped to 0..255."""
        return torch.floor(x * self.sigma + self.mean).clamp(0, 255).to(torch.uint8)
