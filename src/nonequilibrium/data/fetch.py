"""Fetch MNIST and CIFAR-10 from their public addresses or a mirror, verified file by file and written atomically.

    nonequilibrium data [mnist] [cifar10]

leaves data/mnist and data/cifar-10-batches-bin, the official files unpacked. With NONEQUILIBRIUM_MIRROR set to a folder or
an address, archives come from there alone; they may be packed in any way that Python's tarfile reads. A set appears
in data/ by one rename, after every file has the SHA-256 below, so what is there is whole. No pickle is ever read.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import gzip
import hashlib
import lzma
import os
import shutil
import sys
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

from nonequilibrium.errors import Refusal
from nonequilibrium.fields import check_name
from nonequilibrium.files import ROOT, quiet, sha256, write_json

DATA = ROOT / "data"
RECORDS = ROOT / "reports" / "data"
PARTIAL = ROOT / ".checkpoints" / "downloads"
TIMEOUT = 30  # seconds without a byte


class FetchError(Refusal, RuntimeError):
    """The data could not be fetched; nothing half-written is left in data/."""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Where a data set comes from and what it must be.

    folder: its name in data/. files: {unpacked file: SHA-256}. archives: {archive: files to take from it}; a tar archive is
    named without its compression. upstream: public addresses of the folder that holds the archives.
    mirror: names by which a mirror may call an archive, "{}" standing for its upstream name.
    """

    folder: str
    files: dict[str, str]
    archives: dict[str, list[str]]
    upstream: tuple[str, ...]
    mirror: tuple[str, ...]

    def path(self, data: Path = DATA) -> Path:
        return data / self.folder


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
DATA_SETS = {
    "mnist": DataSet(
        "mnist",
        _MNIST,
        {f"{name}.gz": [name] for name in _MNIST},
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        ("mnist/{}", "{}"),
    ),
    "cifar10": DataSet(
        "cifar-10-batches-bin",
        _CIFAR10,
        {"cifar-10-binary.tar.gz": list(_CIFAR10)},
        ("https://www.cs.toronto.edu/~kriz/",),
        ("{}", "cifar-10-binary.tar.xz", "cifar-10-binary.tar.bz2", "cifar-10-binary.tar"),
    ),
}


def missing(name: str, data: Path = DATA) -> list[str]:
    """The files of a data set that are absent from ``data`` or whose sum is wrong; empty when the set is whole."""
    check_name("data set", name, DATA_SETS)
    wanted = DATA_SETS[name]
    folder = wanted.path(data)
    return [f for f, digest in wanted.files.items() if not (folder / f).is_file() or sha256(folder / f) != digest]


def fetch(name: str, data: Path = DATA, mirror: str | None = None, partial: Path = PARTIAL) -> bool:
    """Make data set ``name`` present and verified under ``data``; returns False if it already was.

    mirror: a folder or an address to use in place of the public ones. partial: where unfinished downloads wait to be resumed.
    Raises FetchError with one sentence a source tried; ``data`` then holds what it held before.
    """
    if not missing(name, data):
        return False
    wanted = DATA_SETS[name]
    staging = partial / f"{wanted.folder}.{os.getpid()}"
    try:
        staging.mkdir(parents=True)
        for archive, members in wanted.archives.items():
            _obtain(wanted, archive, members, staging, mirror, partial)
        shutil.rmtree(wanted.path(data), ignore_errors=True)
        data.mkdir(parents=True, exist_ok=True)
        os.replace(staging, wanted.path(data))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FetchError(f"{name}: the disk is full; nothing was left in {data}") from None
        raise FetchError(f"{name}: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def _obtain(
    wanted: DataSet, archive: str, members: list[str], staging: Path, mirror: str | None, partial: Path
) -> None:
    """Fetch one archive from the first source that gives verified members; raises FetchError naming every failure."""
    if mirror is None:
        sources = [base + archive for base in wanted.upstream]
    else:
        sources = [mirror.rstrip("/") + "/" + pattern.format(archive) for pattern in wanted.mirror]
    failures = []
    for source in sources:
        try:
            if "://" in source:
                path = download(source, partial)
            else:
                path = Path(source)
                if not path.is_file():
                    raise FetchError("there is no such file")
            try:
                unpack(path, {member: wanted.files[member] for member in members}, staging)
            finally:
                if path.parent == partial:  # used up, or no good; one on a mirror's disk is not ours to touch
                    path.unlink()
            return
        except FetchError as error:
            failures.append(f"  {source}: {error}")
    remedy = "check the network, or set NONEQUILIBRIUM_MIRROR" if mirror is None else "check NONEQUILIBRIUM_MIRROR"
    raise FetchError(f"{archive} could not be had ({remedy}):\n" + "\n".join(failures))


def download(address: str, partial: Path) -> Path:
    """Download ``address`` into ``partial``, resuming an earlier attempt where the server allows it; returns the file."""
    import requests  # here, because a machine that only trains need not have it

    partial.mkdir(parents=True, exist_ok=True)
    name = f"{hashlib.sha256(address.encode()).hexdigest()[:8]}-{PurePosixPath(address).name}"
    unfinished, finished = partial / f"{name}.part", partial / name
    have = unfinished.stat().st_size if unfinished.exists() else 0
    try:
        with requests.get(
            address, stream=True, timeout=TIMEOUT, headers={"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
        ) as reply:
            if reply.status_code == 416:  # nothing lies beyond what we have: it may be whole, its sum will tell
                os.replace(unfinished, finished)
                return finished
            reply.raise_for_status()
            have = have if reply.status_code == 206 else 0
            length = reply.headers.get("Content-Length")
            total = have + int(length) if length else None
            bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name[9:], disable=quiet())
            with unfinished.open("ab" if have else "wb") as file, bar:
                for chunk in reply.iter_content(1 << 16):
                    file.write(chunk)
                    bar.update(len(chunk))
    except requests.RequestException as error:
        kept = (
            f"; the {unfinished.stat().st_size:,} bytes that came are kept to resume from"
            if unfinished.exists()
            else ""
        )
        raise FetchError(f"the download failed ({type(error).__name__}){kept}") from None
    if total is not None and unfinished.stat().st_size != total:
        raise FetchError(
            f"the download ended after {unfinished.stat().st_size:,} of {total:,} bytes, which are kept to resume from"
        )
    os.replace(unfinished, finished)
    return finished


def unpack(archive: Path, sums: dict[str, str], folder: Path) -> None:
    """Write the files named in ``sums`` from a tar archive, or the one file of a .gz, into ``folder`` and verify them.

    Nothing but those files is ever written, and an archive with a path that climbs out is refused whole. Raises FetchError.
    """
    try:
        if ".tar" in archive.name:
            found = _from_tar(archive, sums, folder)
        else:
            found = list(sums)
            with gzip.open(archive) as source, (folder / found[0]).open("wb") as target:
                shutil.copyfileobj(source, target)
        absent = [name for name in sums if name not in found]
        if absent:
            raise FetchError(f"the archive holds no {absent[0]}")
        for name, digest in sums.items():
            if sha256(folder / name) != digest:
                raise FetchError(f"{name} has the wrong SHA-256")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise FetchError(f"the archive is damaged or cut short ({type(error).__name__})") from None


def _from_tar(archive: Path, sums: dict[str, str], folder: Path) -> list[str]:
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts:
                raise FetchError(f"the archive holds a path that climbs out of it, {member.name!r}")
            if member.isfile() and place.name in sums:
                with tar.extractfile(member) as source, (folder / place.name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                found.append(place.name)
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium data``."""
    parser.add_argument("names", nargs="*", default=list(DATA_SETS), metavar="SET", help="mnist, cifar10; default both")
    parser.add_argument(
        "--record", action="store_true", help="write the outcome to reports/data/ and succeed in any case"
    )


def run(options: argparse.Namespace) -> None:
    """Fetch and verify the data sets that are named; raises FetchError at the end if one could not be had."""
    mirror = os.environ.get("NONEQUILIBRIUM_MIRROR") or None
    for name in options.names:
        check_name("data set", name, DATA_SETS)
    failures = []
    for name in options.names:
        try:
            fetched, reason = fetch(name, mirror=mirror), None
            print(f"{name}: {'fetched and verified' if fetched else 'already here, verified'}")
        except FetchError as error:
            reason = str(error)
            failures.append(reason)
        # The pipeline looks at this file to know whether what needs the data can run.
        write_json(
            RECORDS / f"{name}.json",
            {"data": name, "present": reason is None, "files": DATA_SETS[name].files if reason is None else {}},
        )
    if failures and not options.record:
        raise FetchError("\n".join(failures))
    for reason in failures:
        print(f"not here: {reason}", file=sys.stderr)
