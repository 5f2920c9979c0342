"""Fetch the image data sets from public addresses or a mirror, each file verified by SHA-256.

    nonequilibrium data [mnist] [cifar10] [bark]

NONEQUILIBRIUM_MIRROR, a folder or an http(s) address, replaces the public addresses.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import quiet, save_contents
from replication.data.sources import ABSENT, DATA, DATA_SETS, DataSet, faults
from replication.files import ROOT, write_json
from replication.settings.fields import check_name

RECORDS = ROOT / "reports" / "data"
RETRIES, TIMEOUT = 2, 30  # of a failed download; seconds in which a server must send something
LONGEST_WAIT = 3600  # seconds for another process that fetches
LARGEST = 2**26  # bytes of a file, unpacked; the largest has 47 million


class FetchError(Refusal, RuntimeError):
    """A data set that is not available. What is whole and verified is in data/ nevertheless."""


def fetch(name: str, data: Path = DATA, mirror: str | None = None) -> bool:
    """Make data set ``name`` present and verified under ``data``; False if it already was.

    A file is written atomically as soon as it is verified. One process at a time fetches into
    ``data``. Raises FetchError, which says why each source failed.
    """
    if not faults(name, data):
        return False
    from filelock import FileLock  # here, because a machine that only trains need not have it

    lock, wanted = data / ".lock", DATA_SETS[name]
    folder = data / wanted.folder
    try:
        data.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=LONGEST_WAIT):
            try:
                lacking = faults(name, data)
                there = [fault for fault in lacking.values() if fault != ABSENT]
                if len(there) > 1 and len(lacking) == len(wanted.files):
                    other = f"{folder} holds other files under the names of {name}'s"
                    raise FetchError(f"{other}; move it away, as it is not replaced")
                for archive, files in wanted.archives.items():
                    if some := [file for file in files if file in lacking]:
                        _obtain(wanted, archive, some, folder, mirror)
                return bool(lacking)
            finally:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise FetchError(f"{name} cannot be written: {one_line(error)}") from None


def _obtain(wanted: DataSet, archive: str, files: list[str], folder: Path, mirror: str | None):
    """Write ``files`` of one archive into ``folder``, from the first sources that have them."""
    failures, lacking = [], list(files)
    for place in places(wanted, archive, mirror):
        try:
            with tempfile.TemporaryDirectory() as temporary:
                path = _download(place, temporary) if isinstance(place, str) else place
                for file, content in unpacked(path, files):
                    if hashlib.sha256(content).hexdigest() == wanted.files[file]:
                        save_contents({folder / file: content})
                        lacking = [other for other in lacking if other != file]
            if not lacking:
                return
            raise FetchError(f"it holds no {lacking[0]} with the published SHA-256")
        except FetchError as error:
            failures.append(f"{_without_secrets(place)}: {error}")
    remedy = "check" if mirror else "check the network or set"
    tried = "; ".join(failures)
    raise FetchError(f"{archive} is not available, {remedy} NONEQUILIBRIUM_MIRROR ({tried})")


def places(wanted: DataSet, archive: str, mirror: str | None) -> list[str] | list[Path]:
    """Addresses or paths to try in turn for one archive; raises FetchError for a bad mirror."""
    if mirror is None:
        return [base + archive for base in wanted.upstream]
    name = PurePosixPath(archive).name
    packings = dict.fromkeys((name, name.replace(".tar.gz", ".tar.xz")))
    names = [f"{wanted.folder}/{name}", *packings]
    if mirror.lower().startswith(("http://", "https://")):
        return [f"{mirror.rstrip('/')}/{name}" for name in names]
    folder = os.path.expanduser(mirror)
    if not os.path.isdir(folder):
        allowed = "a folder that exists, or an address that begins with http:// or https://"
        mirror = _without_secrets(mirror)
        raise FetchError(f"NONEQUILIBRIUM_MIRROR is {mirror!r}; it must be {allowed}")
    return [Path(folder, name) for name in names]


def _without_secrets(place: str | Path) -> str:
    """A place without the password and the query that an address may hold, fit for a message."""
    return re.sub(r"(?<=://)[^/]*@|(?<=://)([^?]*)\?.*", r"\1", str(place))


def _download(address: str, folder: str) -> Path:
    """Download ``address`` into ``folder``; returns the file. Raises FetchError."""
    import pooch  # here, because a machine that only trains need not have it

    pooch.get_logger().setLevel("WARNING")
    name = PurePosixPath(address).name
    http = pooch.HTTPDownloader(not quiet(), 1 << 16, timeout=TIMEOUT)
    remote = pooch.Pooch(folder, "", {name: None}, {name: address}, retry_if_failed=RETRIES)
    try:
        return Path(remote.fetch(name, downloader=http))
    except Exception as error:  # requests, urllib3, idna and ssl raise many kinds
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = getattr(error, "strerror", None) or type(error).__name__
        said = f"the server answered {status}" if status else f"the download failed ({reason})"
        raise FetchError(said) from None


def unpacked(archive: Path, files: list[str]) -> Iterator[tuple[str, bytes]]:
    """(file, content) of ``files`` in a tar archive, or of the file that ``archive`` is, packed or
    not; no member is read beyond LARGEST, and none is written. Raises FetchError.
    """
    if not archive.is_file():
        raise FetchError("there is no such file")
    try:
        if ".tar" in archive.name:
            with tarfile.open(archive) as tar:
                for member in tar:
                    file = PurePosixPath(member.name).name
                    if file in files and member.isfile() and (source := tar.extractfile(member)):
                        yield file, source.read(LARGEST)
        else:
            with archive.open("rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
            with gzip.open(archive) if packed else archive.open("rb") as source:
                yield files[0], source.read(LARGEST)
    except Exception as error:  # tarfile, gzip and lzma raise many kinds
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise FetchError(f"the archive is damaged or cut short ({reason})") from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium data``."""
    sets = list(DATA_SETS)
    told = f"{', '.join(sets)}; default all"
    parser.add_argument("names", nargs="*", default=sets, metavar="SET", help=told)
    told = "write the outcome to reports/data/ and succeed in any case"
    parser.add_argument("--record", action="store_true", help=told)


def run(options: argparse.Namespace) -> None:
    """Fetch and verify data sets, a sentence on each; raises FetchError if one is not available.

    In a clone the outcome goes to reports/data/, by which the pipeline knows what it can run.
    """
    for name in options.names:
        check_name("data set", name, DATA_SETS)
    mirror, failures = os.environ.get("NONEQUILIBRIUM_MIRROR", "").strip() or None, []
    for name in dict.fromkeys(options.names):
        outcome = {"data": name, "present": True, "files": DATA_SETS[name].files}
        try:
            fetched = fetch(name, DATA, mirror)
            print(f"{name}: {'fetched and verified' if fetched else 'already here, verified'}")
        except FetchError as error:
            failures.append(f"{name} is not here: {error}")
            outcome |= {"present": False, "files": {}, "reason": str(error)}
        if options.record or (ROOT / "params.yaml").exists():
            write_json(RECORDS / f"{name}.json", outcome)
    if failures and not options.record:
        raise FetchError("; ".join(failures))
    for sentence in failures:
        print(sentence, file=sys.stderr)
