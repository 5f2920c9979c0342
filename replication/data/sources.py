"""The image data sets that are fetched: which files they hold and where these come from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from nonequilibrium.files import sha256
from replication.files import ROOT
from replication.settings.fields import check_name

DATA = ROOT / "data"
ABSENT, OTHER = "it is absent", "its SHA-256 is not the published one"


class DataSet(NamedTuple):
    """folder: its name in data/. files: {unpacked file: SHA-256}. archives: {archive: its files}.
    upstream: public addresses of what holds the archives, to try in turn.
    """

    folder: str
    files: dict[str, str]
    archives: dict[str, list[str]]
    upstream: tuple[str, ...]


_MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_CIFAR10 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
_BROWN, _WILLOW = (f"bark_{kind}_02_diff_1k.jpg" for kind in ("brown", "willow"))
_BARK = {  # two photographs, which stand in for the paper's bark
    _BROWN: "920fa0bed0c9d78c1d530e99795113afd532d7db746de440f4a85d7c83ed0f1a",
    _WILLOW: "95e1380566834aab220bd8ea9a5287f3bfff46910c18017fcb46ebbbe832024f",
}
_MNIST_PLACES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_CIFAR10_PLACES = ("https://www.cs.toronto.edu/~kriz/",)
_BARK_PLACES = ("https://dl.polyhaven.org/file/ph-assets/Textures/jpg/1k/",)
_BARK_ARCHIVES = {f"bark_brown_02/{_BROWN}": [_BROWN], f"bark_willow_02/{_WILLOW}": [_WILLOW]}
_CIFAR10_ARCHIVES = {"cifar-10-binary.tar.gz": list(_CIFAR10)}
DATA_SETS = {
    "mnist": DataSet("mnist", _MNIST, {f"{name}.gz": [name] for name in _MNIST}, _MNIST_PLACES),
    "cifar10": DataSet("cifar-10-batches-bin", _CIFAR10, _CIFAR10_ARCHIVES, _CIFAR10_PLACES),
    "bark": DataSet("bark-cc0", _BARK, _BARK_ARCHIVES, _BARK_PLACES),
}


def faults(name: str, data: Path = DATA) -> dict[str, str]:
    """{file: what is wrong with it} of a data set in ``data``; empty if the set is whole."""
    check_name("data set", name, DATA_SETS)
    found = {}
    for file, digest in DATA_SETS[name].files.items():
        path = data / DATA_SETS[name].folder / file
        try:
            about = path.stat()
            if _sha256_once(path, about.st_mtime_ns, about.st_size, about.st_ino) != digest:
                found[file] = OTHER
        except FileNotFoundError:
            found[file] = ABSENT
        except OSError as error:
            found[file] = f"it cannot be read ({error.strerror})"
    return found


@functools.lru_cache(maxsize=100)
def _sha256_once(path: Path, *_: int) -> str:
    """The SHA-256 of a file, computed once per process while the file stays unchanged."""
    return sha256(path)
