"""Fetch data sets from public addresses, or from NONEQUILIBRIUM_MIRROR; verified by SHA-256."""

import argparse
import gzip
import hashlib
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from nonequilibrium.errors import one_line
from nonequilibrium.files import quiet, save_contents
from replication.data.sources import DATA, DATA_SETS, DataError, DataSet, missing
from replication.files import ROOT, write_json
from replication.settings.fields import check_name

RECORDS = ROOT / "reports" / "data"
RETRIES, TIMEOUT = 2, 30  # of a failed download; seconds in which a server must send something
LARGEST = 2**26  # bytes of a file, unpacked; the largest has 47 million


def fetch(name: str, data: Path = DATA, mirror: str | None = None) -> bool:
    """Make data set ``name`` present and verified under ``data``; False if it already was.

    Files are written atomically, so that several processes may fetch at once. Raises DataError.
    """
    lacking, wanted = missing(name, data), DATA_SETS[name]
    folder = data / wanted.folder
    wrong = [file for file in lacking if (folder / file).exists()]
    if len(wrong) > 1 and len(lacking) == len(wanted.files):
        raise DataError(f"{folder} holds another data set of the same names; move it away")
    try:
        for archive, files in wanted.archives.items():
            if some := {*files} & {*lacking}:
                _obtain(wanted, archive, some, folder, mirror)
    except OSError as error:
        raise DataError(f"{name} cannot be written: {one_line(error)}") from None
    return bool(lacking)


def _obtain(wanted: DataSet, archive: str, lacking: set[str], folder: Path, mirror: str | None):
    """Write the files ``lacking`` of one archive, from the first places that have them."""
    failures, name = [], PurePosixPath(archive).name
    places = [base + archive for base in wanted.upstream]
    if mirror:
        names = (f"{wanted.folder}/{name}", name, name.replace(".tar.gz", ".tar.xz"))
        places = [f"{mirror.rstrip('/')}/{name}" for name in dict.fromkeys(names)]
    for place in places:
        try:
            with tempfile.TemporaryDirectory() as temporary:
                for file, content in unpacked(_local(place, temporary), lacking):
                    if hashlib.sha256(content).hexdigest() == wanted.files[file]:
                        save_contents({folder / file: content})
                        lacking = lacking - {file}
            if not lacking:
                return
            raise DataError(f"it holds no {min(lacking)} with the published SHA-256")
        except DataError as error:
            failures.append(f"{place}: {error}")
    remedy = f"{'check' if mirror else 'check the network or set'} NONEQUILIBRIUM_MIRROR"
    raise DataError(f"{archive} is not available, {remedy} ({'; '.join(failures)})")


def _local(place: str, folder: str) -> Path:
    """The file at ``place``; it is downloaded into ``folder`` if that is an address."""
    if not re.match("https?://", place, re.IGNORECASE):
        return Path(place).expanduser()
    import pooch  # here, because a machine that only trains need not have it

    pooch.get_logger().setLevel("WARNING")
    name = PurePosixPath(place).name
    http = pooch.HTTPDownloader(not quiet(), 1 << 16, timeout=TIMEOUT)
    remote = pooch.Pooch(folder, "", {name: None}, {name: place}, retry_if_failed=RETRIES)
    try:
        return Path(remote.fetch(name, downloader=http))
    except Exception as error:  # requests, urllib3, idna and ssl raise many kinds
        answer = getattr(getattr(error, "response", None), "status_code", type(error).__name__)
        reason = getattr(error, "strerror", None) or answer
        raise DataError(f"the download failed ({reason})") from None


def unpacked(archive: Path, files: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """(file, content) of ``files`` in a tar archive, or of a single file, packed or not."""
    if not archive.is_file():
        raise DataError("there is no such file")
    try:
        if ".tar" in archive.name:
            with tarfile.open(archive) as tar:
                for member in tar:
                    file = PurePosixPath(member.name).name
                    if file in files and member.isfile() and (source := tar.extractfile(member)):
                        yield file, source.read(LARGEST)
        else:
            with archive.open("rb") as raw:
                packed = raw.peek(2).startswith(b"\x1f\x8b")
                yield min(files), (gzip.open(raw) if packed else raw).read(LARGEST)
    except Exception as error:  # tarfile, gzip and lzma raise many kinds
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"the archive is damaged or cut short ({reason})") from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``nonequilibrium data``."""
    sets, add = list(DATA_SETS), parser.add_argument
    add("names", nargs="*", default=sets, help=f"{', '.join(sets)}; default all")
    add("--record", action="store_true", help="succeed in any case; reports/data/ says how it went")


def run(options: argparse.Namespace) -> None:
    """Fetch data sets and record in reports/data/ which are here, for the pipeline to know."""
    for name in options.names:
        check_name("data set", name, DATA_SETS)
    mirror, failures = os.environ.get("NONEQUILIBRIUM_MIRROR", "").strip() or None, []
    for name in dict.fromkeys(options.names):
        outcome = {"data": name, "present": True, "files": DATA_SETS[name].files}
        try:
            how = "fetched and verified" if fetch(name, DATA, mirror) else "already here, verified"
            print(f"{name}: {how}")
        except DataError as error:
            reason = re.sub(r"://[^/]*@", "://", str(error))  # an address may hold a password
            failures.append(f"{name} is not here: {reason}")
            outcome |= {"present": False, "files": {}, "reason": reason}
        write_json(RECORDS / f"{name}.json", outcome)
    if failures and not options.record:
        raise DataError("; ".join(failures))
    for sentence in failures:
        print(sentence, file=sys.stderr)
