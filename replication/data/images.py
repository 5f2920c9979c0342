"""The image data sets by name, read from the files that were fetched or that ship inside a
dependency.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.data.images import ImageSet
from nonequilibrium.errors import Refusal
from nonequilibrium.files import sha256
from replication.data.sources import DATA, DATA_SETS
from replication.settings.fields import check_name


class DataError(Refusal, ValueError):
    """Images that are absent or not what they should be."""


def _idx(path: Path) -> Tensor:
    """An idx file of bytes as a uint8 tensor of its own shape."""
    raw = path.read_bytes()
    shape = np.frombuffer(raw, ">i4", raw[3], offset=4)
    return torch.from_numpy(
        np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()
    )


def _mnist(folder: Path) -> ImageSet:
    train, test = (
        _idx(folder / f"{part}-images-idx3-ubyte")[:, None] for part in ("train", "t10k")
    )
    return ImageSet(train, test, "MNIST digits")


def _cifar10(folder: Path) -> ImageSet:
    def batches(names: list[str]) -> Tensor:
        counts = [
            (folder / name).stat().st_size // 3073 for name in names
        ]  # a label and the pixels, channels first
        images = torch.empty(sum(counts), 3, 32, 32, dtype=torch.uint8)
        for its, name in zip(images.split(counts), names, strict=True):
            records = np.fromfile(folder / name, np.uint8).reshape(-1, 3073)
            its.copy_(torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)))
        return images

    return ImageSet(
        batches([f"data_batch_{i}.bin" for i in range(1, 6)]),
        batches(["test_batch.bin"]),
        "CIFAR-10",
    )


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
    # The lowest part of each photograph is held out; patches overlap, so a strip between is left
    # out.
    train = [p[: int(0.75 * len(p))] for p in patches]
    test = [p[int(0.85 * len(p)) :] for p in patches]
    return ImageSet(
        torch.cat(train), torch.cat(test), "32×32 patches of scikit-learn's two sample photographs"
    )


def _of_any_size(_: Path) -> ImageSet:
    raise DataError("these pictures have no one size; their model's class loads them")


# What ships inside a dependency serves quick runs; the others must be fetched.
SOURCES = {
    "mnist": _mnist,
    "cifar10": _cifar10,
    "digits": _digits,
    "photographs": _photographs,
    "dead_leaves": _of_any_size,
    "bark": _of_any_size,
}


def present(name: str, data: Path = DATA) -> bool:
    """True if the images of ``name`` can be loaded, False if they must be fetched first; raises
    DataError if a file is damaged.
    """
    check_name("data set", name, SOURCES)
    if name not in DATA_SETS:
        return True
    wanted = DATA_SETS[name]
    paths = [wanted.path(data) / file for file in wanted.files]
    if not all(path.is_file() for path in paths):
        return False
    for path in paths:
        _verify(path, wanted.sizes.get(path.name), wanted.files[path.name])
    return True


def _verify(path: Path, size: int | None, digest: str) -> None:
    """Raises DataError unless a file is the published one, byte for byte."""
    try:
        found = path.stat()
        if size not in (None, found.st_size):
            wrong = f"it has {found.st_size:,} bytes, not {size:,}"
        elif _sha256_once(path, found.st_size, found.st_mtime_ns, found.st_ino) != digest:
            wrong = "its SHA-256 is not the published one"
        else:
            return
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); `make data` fetches it anew"
        ) from None
    raise DataError(f"{path} is damaged: {wrong}; `make data` fetches it anew")


@functools.lru_cache(maxsize=100)
def _sha256_once(path: Path, size: int, modified: int, inode: int) -> str:
    """The sum of a file, reckoned once a process for as long as the file stays as it is."""
    return sha256(path)


def load_images(name: str, data: Path = DATA) -> ImageSet:
    """A data set by name; raises DataError, with the remedy, if it must be fetched first or is
    damaged.
    """
    if not present(name, data):
        raise DataError(f"{name} is not in {data}; `make data` fetches it")
    return SOURCES[name](DATA_SETS[name].path(data) if name in DATA_SETS else data)
