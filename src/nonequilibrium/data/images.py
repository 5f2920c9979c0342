"""The image data sets: loading, and the paper's preprocessing.

Images stay uint8 until they are used. Then each pixel gets uniform noise of one grey level (footnote 3: without it the bound
rewards learning the 8-bit grid) and is shifted and scaled by two constants of the training set to mean 0 and variance 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.data.fetch import DATA, DATA_SETS
from nonequilibrium.errors import Refusal
from nonequilibrium.fields import check_name


class DataError(Refusal, ValueError):
    """Images that are absent or not what they should be."""


class ImageSet(NamedTuple):
    """train and test: (n, channels, height, width) uint8. title: what it is, for captions. levels: grey levels of a pixel."""

    train: Tensor
    test: Tensor
    title: str
    levels: int = 256


class Scale(NamedTuple):
    """x = (pixel + u − mean)/sigma with u uniform on [0, 1): mean and standard deviation of the noisy training pixels."""

    mean: float
    sigma: float

    @classmethod
    def of(cls, train: Tensor) -> Scale:
        """The constants of training images (n, c, h, w) uint8, with the noise's own mean 1/2 and variance 1/12."""
        counts = torch.bincount(train.flatten().int(), minlength=256).double()
        level = torch.arange(256, dtype=torch.float64)
        mean = float((counts * level).sum() / counts.sum())
        var = float((counts * (level - mean).square()).sum() / counts.sum())
        return cls(mean + 0.5, math.sqrt(var + 1 / 12))

    def dequantise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 images to x^0, float32 of the same shape, on their device."""
        u = torch.rand(images.shape, generator=generator, device=images.device)
        return (images + u - self.mean) / self.sigma

    def to_pixels(self, x: Tensor) -> Tensor:
        """x to uint8 pixels, what lies outside of 0..255 clipped."""
        return torch.floor(x * self.sigma + self.mean).clamp(0, 255).to(torch.uint8)


def _idx(path: Path) -> Tensor:
    """An idx file of bytes as a uint8 tensor of its own shape."""
    raw = path.read_bytes()
    if raw[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an idx file of bytes")
    shape = np.frombuffer(raw, ">i4", raw[3], offset=4)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if len(values) != np.prod(shape):
        raise DataError(f"{path} holds {len(values)} values; its header promises {np.prod(shape)}")
    return torch.from_numpy(values.reshape(shape).copy())


def _mnist(folder: Path) -> ImageSet:
    train, test = (_idx(folder / f"{part}-images-idx3-ubyte")[:, None] for part in ("train", "t10k"))
    return ImageSet(train, test, "MNIST digits")


def _cifar10(folder: Path) -> ImageSet:
    def batch(name: str) -> Tensor:
        raw = np.fromfile(folder / name, np.uint8)
        if len(raw) % 3073:
            raise DataError(f"{folder / name} is {len(raw)} bytes long; CIFAR-10 records have 3073")
        return torch.from_numpy(raw.reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32).copy())

    train = torch.cat([batch(f"data_batch_{i}.bin") for i in range(1, 6)])
    return ImageSet(train, batch("test_batch.bin"), "CIFAR-10")


def _digits(_: Path) -> ImageSet:
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images.astype(np.uint8))[:, None]
    return ImageSet(images[:1500], images[1500:], "scikit-learn's 8×8 digits", levels=17)


def _photographs(_: Path) -> ImageSet:
    from sklearn.datasets import load_sample_images

    patches = []
    for photograph in load_sample_images().images:
        half = torch.from_numpy(photograph[::2, ::2].copy()).permute(2, 0, 1)
        grid = half.unfold(1, 32, 16).unfold(2, 32, 16)
        patches.append(grid.permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32))
    # The lowest part of each photograph is held out; patches overlap, so a strip between is left out.
    train = [p[: int(0.75 * len(p))] for p in patches]
    test = [p[int(0.85 * len(p)) :] for p in patches]
    return ImageSet(torch.cat(train), torch.cat(test), "32×32 patches of scikit-learn's two sample photographs")


# What ships inside a dependency serves quick runs; the others must be fetched.
SOURCES = {"mnist": _mnist, "cifar10": _cifar10, "digits": _digits, "photographs": _photographs}


def present(name: str, data: Path = DATA) -> bool:
    """True if the images of ``name`` can be loaded (their sums are checked when they are fetched, not here)."""
    check_name("data set", name, SOURCES)
    return name not in DATA_SETS or all((DATA_SETS[name].path(data) / f).is_file() for f in DATA_SETS[name].files)


def load_images(name: str, data: Path = DATA) -> ImageSet:
    """A data set by name; raises DataError, with the remedy, if it must be fetched first."""
    if not present(name, data):
        raise DataError(f"{name} is not in {data}; `make data` fetches it")
    return SOURCES[name](DATA_SETS[name].path(data) if name in DATA_SETS else data)
