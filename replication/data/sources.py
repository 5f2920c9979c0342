"""The image data sets that are fetched: which files they hold and where these come from."""

from pathlib import Path
from typing import NamedTuple

from nonequilibrium.errors import Refusal
from nonequilibrium.files import sha256
from replication.files import ROOT
from replication.settings.fields import check_name, read_yaml

DATA = ROOT / "data"


class DataError(Refusal, ValueError):
    """Images that are absent or not what they should be."""


class DataSet(NamedTuple):
    """The files of a data set and where they come from."""

    folder: str  # in data/
    files: dict[str, str]  # {unpacked file: SHA-256}
    archives: dict[str, list[str]]  # {archive: the files in it}
    upstream: tuple[str, ...]  # public addresses of what holds the archives, to try in turn


DATA_SETS: dict[str, DataSet] = {}
for _name, _said in read_yaml(Path(__file__).with_suffix(".yaml").read_bytes(), "sources").items():
    _files = {file: digest for sums in _said["archives"].values() for file, digest in sums.items()}
    _archives = {archive: list(sums) for archive, sums in _said["archives"].items()}
    DATA_SETS[_name] = DataSet(_said["folder"], _files, _archives, tuple(_said["upstream"]))


def missing(name: str, data: Path = DATA) -> list[str]:
    """The files of a data set that are absent from ``data`` or not the published ones."""
    check_name("data set", name, DATA_SETS)
    files = {data / DATA_SETS[name].folder / f: sha for f, sha in DATA_SETS[name].files.items()}
    return [path.name for path in files if not path.is_file() or sha256(path) != files[path]]
