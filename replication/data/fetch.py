"""Fetch the image data sets from their public addresses or a mirror, verified file by file and
written atomically.

    nonequilibrium data [mnist] [cifar10] [bark]

leaves data/mnist and data/cifar-10-batches-bin, the official files unpacked, and of bark what can
be had. With NONEQUILIBRIUM_MIRROR set to a folder or an address, archives come from there alone;
they may be packed in any way that Python's tarfile reads. Files appear in data/ by a rename each,
after all that were missing have the SHA-256 that they must have. No pickle is ever read.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import sha256, sweep
from replication.data import uiuc
from replication.data.archives import unpack
from replication.data.download import download, part_path
from replication.data.sources import (
    DATA,
    DATA_SETS,
    DataSet,
    FetchError,
    places,
    understood,
    without_secrets,
)
from replication.files import ROOT, write_json
from replication.settings.fields import check_name

RECORDS = ROOT / "reports" / "data"
PARTIAL = ROOT / ".checkpoints" / "downloads"
STAGING, LOCK = (
    ".unfinished",
    ".lock",
)  # in the data set's own folder, so on its own disk; gone afterwards
LONGEST_WAIT = 3600  # seconds for another process that fetches the same


def missing(name: str, data: Path = DATA) -> list[str]:
    """The files of a data set that are absent from ``data`` or whose sum is wrong; empty when the
    set is whole.
    """
    check_name("data set", name, DATA_SETS)
    wanted = DATA_SETS[name]

    def whole(file: str) -> bool:
        path = wanted.path(data) / file
        try:
            size = wanted.sizes.get(file, path.stat().st_size)
            return (
                path.is_file()
                and path.stat().st_size == size
                and sha256(path) == wanted.files[file]
            )
        except OSError:  # absent, or not to be read
            return False

    return [file for file in wanted.files if not whole(file)]


def fetch(name: str, data: Path = DATA, mirror: str | None = None, partial: Path = PARTIAL) -> bool:
    """Make data set ``name`` present and verified under ``data``; returns False if it already was.

    mirror: a folder or an address to use in place of the public ones. partial: where unfinished
    downloads wait to be resumed. Only files of the set that are missing are written, other files in
    its folder stay. One process at a time works on a set. Raises FetchError, which names every
    source that was tried; ``data`` then holds what it held before.
    """
    absent, wanted = missing(name, data), DATA_SETS[name]
    target = wanted.path(data)
    if not absent and not _leftovers(wanted, target, partial) and not (target / LOCK).exists():
        return False
    made = [folder for folder in (target, data) if not os.path.lexists(folder)]
    try:
        with _alone(target / LOCK, name), _alone(partial / f".{wanted.folder}{LOCK}", name):
            _sweep(path for path in _leftovers(wanted, target, partial) if path.suffix != ".part")
            absent = missing(name, data)
            if absent:
                _fill(wanted, absent, target, mirror, partial)
            _sweep(_leftovers(wanted, target, partial))
    except OSError as error:
        if not absent:  # nothing but sweeping has failed
            return False
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FetchError(f"{name}: the disk is full; make room and fetch again") from None
        raise FetchError(f"{name}: {one_line(error)}") from None
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
    return bool(absent)


def fetch_bark(data: Path = DATA, mirror: str | None = None, partial: Path = PARTIAL) -> dict:
    """The paper's bark if it can be had, and the photographs that stand in for it if they can: what
    to put on record.

    Both, because models/ has weights of the photographs. Without either the textures that ship with
    scikit-image serve, so this raises nothing where a source fails; it says what is used, and why
    nothing better.
    """
    found, reasons = [], []
    for source, obtain in (
        ("uiuc", uiuc.obtain),
        ("photographs", functools.partial(fetch, "bark")),
    ):
        try:
            with _alone(partial / f".bark-{source}{LOCK}", "bark"):
                fetched = obtain(data, mirror, partial)
            print(
                f"bark ({source}): {'fetched and verified' if fetched else 'already here, verified'}"
            )
            found.append(source)
        except (Refusal, OSError) as error:
            reasons.append(f"{source}: {one_line(error)}")
    used = (found + ["textures"])[0]
    for reason in reasons:
        print(f"bark is not here as {reason}; used: {used}", file=sys.stderr)
    files = DATA_SETS["bark"].files if "photographs" in found else {}
    return {"present": bool(found), "source": used, "files": files} | (
        {"reason": "; ".join(reasons)} if reasons else {}
    )


def _fill(
    wanted: DataSet, absent: list[str], target: Path, mirror: str | None, partial: Path
) -> None:
    """Fetch the files ``absent`` into a folder beside their places, then move all to these."""
    for file in absent:
        if (target / file).is_dir():
            raise FetchError(f"{target / file} is a folder; move it away, a file must stand there")
    staging = target / STAGING
    try:
        staging.mkdir()
        for archive, members in wanted.archives.items():
            members = [file for file in members if file in absent]
            if members:
                _obtain(wanted, archive, members, staging, mirror, partial)
        for file in absent:
            os.replace(staging / file, target / file)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _obtain(
    wanted: DataSet,
    archive: str,
    members: list[str],
    staging: Path,
    mirror: str | None,
    partial: Path,
) -> None:
    """Fetch ``members`` of one archive from the first source that gives them; raises FetchError
    naming every failure.
    """
    sums, most = (
        {file: wanted.files[file] for file in members},
        wanted.most(wanted.archives[archive]),
    )
    failures = []
    for source in places(wanted, archive, mirror):
        try:
            if isinstance(source, Path):
                if not source.is_file():
                    raise FetchError("there is no such file")
                unpack(source, sums, staging, wanted.sizes, most)
            else:
                resumed = part_path(source, partial).exists()
                path = download(source, partial, most)
                try:
                    unpack(path, sums, staging, wanted.sizes, most)
                except FetchError:
                    if not resumed:
                        raise
                    path = download(
                        source, partial, most
                    )  # what was resumed may have been another file's beginning
                    unpack(path, sums, staging, wanted.sizes, most)
                finally:
                    path.unlink()  # used up, or no good
            return
        except FetchError as error:
            failures.append(f"{without_secrets(source)}: {error}")
    remedy = (
        "check the network, or set NONEQUILIBRIUM_MIRROR"
        if mirror is None
        else "check NONEQUILIBRIUM_MIRROR"
    )
    raise FetchError(f"{archive} could not be had, {remedy} ({'; '.join(failures)})")


@contextlib.contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Hold the lock file ``lock``, waiting for whoever holds it; its folder is made, and the file
    is gone afterwards.
    """
    from filelock import (  # here, because a machine that only trains need not have it
        FileLock,
        Timeout,
    )

    held, told = FileLock(lock), False
    deadline = time.monotonic() + LONGEST_WAIT
    while not held.is_locked:
        _make_folder(lock.parent)
        try:
            held.acquire(timeout=1 if told else 0)
        except FileNotFoundError:  # whoever held it has removed the folder
            pass
        except Timeout:
            if time.monotonic() > deadline:
                raise FetchError(
                    f"{name}: another process has held {lock} for too long; end that process"
                ) from None
            if not told:
                print(f"{name}: waiting for another process that fetches it", file=sys.stderr)
            told = True
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; raises FetchError naming what stands in their place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        for place in (folder, *folder.parents):
            if os.path.lexists(place) and not place.is_dir():
                what = "a file" if place.exists() else "a link that leads nowhere"
                raise FetchError(
                    f"{place} is {what}; move it away, a folder must stand there"
                ) from None
        raise


def _leftovers(wanted: DataSet, target: Path, partial: Path) -> list[Path]:
    """What killed runs left of a set: its staging folder, and its downloads, of which those that
    end in .part can be resumed.
    """
    patterns = ("{}", *wanted.mirror)
    names = {
        PurePosixPath(pattern.format(archive)).name
        for archive in wanted.archives
        for pattern in patterns
    }
    downloads = f"[0-9a-f]{{8}}-({'|'.join(map(re.escape, names))})(.part)?"
    former = re.escape(wanted.folder) + r"\.\d+"  # staging folders of former versions
    found = [path for path in partial.glob("*") if re.fullmatch(f"{downloads}|{former}", path.name)]
    return found + [target / STAGING] * (target / STAGING).exists()


def _sweep(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium data``."""
    parser.add_argument(
        "names",
        nargs="*",
        default=list(DATA_SETS),
        metavar="SET",
        help="mnist, cifar10, bark; default all",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the outcome to reports/data/ and succeed in any case",
    )


def run(options: argparse.Namespace) -> None:
    """Fetch and verify the data sets that are named; raises FetchError at the end if one could not
    be had.
    """
    mirror = os.environ.get("NONEQUILIBRIUM_MIRROR", "").strip() or None
    names = list(dict.fromkeys(map(understood, options.names)))
    for name in names:
        check_name("data set", name, DATA_SETS)
    _make_folder(RECORDS)
    for folder in (PARTIAL.parent, PARTIAL, RECORDS):
        sweep(folder)
    failures = {}
    for name in names:
        outcome = {"data": name, "present": True, "files": DATA_SETS[name].files}
        if name == "bark":
            write_json(RECORDS / "bark.json", outcome | fetch_bark(mirror=mirror))
            continue
        try:
            fetched = fetch(name, mirror=mirror)
            print(f"{name}: {'fetched and verified' if fetched else 'already here, verified'}")
        except FetchError as error:
            failures[name] = str(error)
            outcome |= {"present": False, "files": {}, "reason": str(error)}
        # The pipeline looks at this file to know whether what needs the data can run. Equal
        # outcomes give equal bytes.
        write_json(RECORDS / f"{name}.json", outcome)
    if failures and not options.record:
        raise FetchError("; ".join(dict.fromkeys(failures.values())))
    for name, reason in failures.items():
        print(f"{name} is not here: {reason}", file=sys.stderr)
