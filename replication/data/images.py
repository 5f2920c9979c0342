"""The image data sets by name, from the files that were fetched or that ship with a library."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.data.images import ImageSet
from replication.data.sources import DATA, DATA_SETS, DataError, missing
from replication.settings.fields import check_name

DIGITS = 10


def _idx(folder: Path, kind: str) -> list[Tensor]:
    """[train, test] of MNIST's idx files of bytes, whose fourth byte counts the dimensions."""
    parts = []
    for part in ("train", "t10k"):
        raw = np.fromfile(folder / f"{part}-{kind}-ubyte", np.uint8)
        start = 4 + 4 * int(raw[3])
        parts.append(torch.from_numpy(raw[start:].reshape(raw[4:start].view(">i4"))))
    return parts


def _mnist(folder: Path) -> ImageSet:
    train, test = _idx(folder, "images-idx3")
    return ImageSet(train[:, None], test[:, None], "MNIST digits")


def _cifar10_records(folder: Path) -> list[Tensor]:
    """[train, test] of CIFAR-10's records, a label, then the pixels, channels first."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    parts = [np.fromfile(folder / f"{name}.bin", np.uint8).reshape(-1, 3073) for name in names]
    return [torch.from_numpy(np.concatenate(parts[:-1])), torch.from_numpy(parts[-1])]


def _cifar10(folder: Path) -> ImageSet:
    pixels = (part[:, 1:].contiguous() for part in _cifar10_records(folder))
    train, test = (part.reshape(-1, 3, 32, 32) for part in pixels)
    return ImageSet(train, test, "CIFAR-10")


def _digits(_: Path) -> ImageSet:
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images.astype(np.uint8))[:, None]
    return ImageSet(images[:1500], images[1500:], "scikit-learn's 8×8 digits", levels=17)


def _digits_labels(_: Path) -> list[Tensor]:
    from sklearn.datasets import load_digits

    target = torch.from_numpy(load_digits().target)
    return [target[:1500], target[1500:]]


def _photographs(_: Path) -> ImageSet:
    from sklearn.datasets import load_sample_images

    patches = []
    for photograph in load_sample_images().images:
        half = torch.from_numpy(photograph[::2, ::2].copy()).permute(2, 0, 1)
        grid = half.unfold(1, 32, 16).unfold(2, 32, 16)
        patches.append(grid.permute(1, 2, 0, 3, 4).reshape(-1, 3, 32, 32))
    # The lowest part of each photograph is held out; as patches overlap, a strip is left out.
    train = torch.cat([p[: int(0.75 * len(p))] for p in patches])
    test = torch.cat([p[int(0.85 * len(p)) :] for p in patches])
    return ImageSet(train, test, "32×32 patches of scikit-learn's two sample photographs")


SOURCES = {"mnist": _mnist, "cifar10": _cifar10, "digits": _digits, "photographs": _photographs}
LABELS = {
    "mnist": partial(_idx, kind="labels-idx1"),
    "cifar10": lambda folder: [part[:, 0] for part in _cifar10_records(folder)],
    "digits": _digits_labels,
}


def present(name: str, data: Path = DATA) -> bool:
    """Whether data set ``name`` can be loaded or must be fetched; raises DataError if damaged."""
    wrong = missing(name, data) if name in DATA_SETS else []  # the others are always here
    paths = [data / DATA_SETS[name].folder / file for file in wrong]
    if paths and all(path.exists() for path in paths):
        message = f"{paths[0]} is damaged: its SHA-256 is not the published one"
        raise DataError(f"{message}; `make data` fetches it anew")
    return not paths


def load_images(name: str, data: Path = DATA) -> ImageSet:
    """A data set by name; raises DataError, with the remedy, if it is absent or damaged."""
    return _loaded(SOURCES, name, data)


def load_labels(name: str, data: Path = DATA) -> list[Tensor]:
    """[train, test] labels, int64 from 0 to 9, in the order of ``load_images``."""
    return [labels.long() for labels in _loaded(LABELS, name, data)]


def _loaded(loaders: dict, name: str, data: Path):
    check_name("data set", name, loaders)
    if not present(name, data):
        raise DataError(f"{name} is not in {data}; `make data` fetches it")
    return loaders[name](data / DATA_SETS[name].folder if name in DATA_SETS else data)
