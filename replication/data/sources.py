"""The image data sets that are fetched: which files they hold and where these come from."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nonequilibrium.files import sha256
from replication.files import ROOT
from replication.settings.fields import check_name

DATA = ROOT / "data"


class DataSet(NamedTuple):
    """The files of a data set and where they come from."""

    folder: str  # in data/
    files: dict[str, str]  # {unpacked file: SHA-256}
    archives: dict[str, list[str]]  # {archive: the files in it}
    upstream: tuple[str, ...]  # public addresses of what holds the archives, to try in turn


def _files(folder: str) -> dict[str, str]:
    lines = Path(__file__).with_name("SHA256SUMS").read_text().splitlines()
    paths = {PurePosixPath(path): digest for digest, path in map(str.split, lines)}
    return {path.name: digest for path, digest in paths.items() if path.parent.name == folder}


_MNIST, _CIFAR10, _BARK = map(_files, ("mnist", "cifar-10-batches-bin", "bark-cc0"))
_MNIST_PLACES = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
_CIFAR10_ARCHIVES = {"cifar-10-binary.tar.gz": list(_CIFAR10)}
_CIFAR10_PLACES = ("https://www.cs.toronto.edu/~kriz/",)
_BARK_ARCHIVES = {f"{name.partition('_diff')[0]}/{name}": [name] for name in _BARK}
_BARK_PLACES = ("https://dl.polyhaven.org/file/ph-assets/Textures/jpg/1k/",)
DATA_SETS = {
    "mnist": DataSet("mnist", _MNIST, {f"{name}.gz": [name] for name in _MNIST}, _MNIST_PLACES),
    "cifar10": DataSet("cifar-10-batches-bin", _CIFAR10, _CIFAR10_ARCHIVES, _CIFAR10_PLACES),
    "bark": DataSet("bark-cc0", _BARK, _BARK_ARCHIVES, _BARK_PLACES),  # stands in for the paper's
}


def missing(name: str, data: Path = DATA) -> list[str]:
    """The files of a data set that are absent from ``data`` or not the published ones."""
    check_name("data set", name, DATA_SETS)
    files = {data / DATA_SETS[name].folder / f: sha for f, sha in DATA_SETS[name].files.items()}
    return [path.name for path in files if not path.is_file() or sha256(path) != files[path]]
