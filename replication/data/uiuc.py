"""The paper's bark: classes T01 to T04 of the UIUC texture database (Lazebnik, Schmid and Ponce
2005), 640 × 480 grey, 40 a class.

The archive is known by the sums that public loaders of it quote; its files have none that is
published. So the archive is verified as a whole, and the sums of the files that came of it are
written beside them, by which they are verified afterwards.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from nonequilibrium.files import sha256
from replication.data.archives import damaged
from replication.data.download import download
from replication.data.images import DataError
from replication.data.sources import DataSet, FetchError, places, without_secrets

FOLDER = "bark-uiuc"  # in data/
CLASSES, EACH = (1, 2, 3, 4), 40
NAMES = [f"T0{c}_{k:02d}.jpg" for c in CLASSES for k in range(1, EACH + 1)]
SUMS = "SHA256SUMS"  # beside the files
MD5, SHA1 = (
    "e622e4708e336d51b3bbd45503618af1",
    "c0761b76080a9a9200b4a6894e05fabaca1fb280",
)  # of the archive, as quoted
ARCHIVE = "T01-T05.zip"
MOST, MOST_EACH = 200 << 20, 4 << 20  # bytes of the archive, and of a file unpacked
MOST_MEMBERS = 10_000
_PAGE = "http://www-cvr.ai.uiuc.edu/ponce_grp/data/texture_database/"
PLACES = DataSet(
    FOLDER,
    {},
    {},
    (_PAGE, f"https://web.archive.org/web/20070829035029id_/{_PAGE}"),
    ("{}", "bark-uiuc/{}"),
)


def whole(data: Path) -> bool:
    """Whether all files are in ``data`` as they were unpacked; raises DataError if one is damaged."""
    folder = data / FOLDER
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        if sums.keys() != set(NAMES):
            return False
        for name in NAMES:
            if sha256(folder / name) != sums[name]:
                raise DataError(
                    f"{folder / name} is damaged; remove {folder}, and `nonequilibrium data bark` fetches it anew"
                )
    except DataError:
        raise
    except (OSError, ValueError):  # absent, or no such list
        return False
    return True


def obtain(data: Path, mirror: str | None, partial: Path) -> bool:
    """Fetch the files into ``data`` unless they are there: True if something was fetched; raises
    FetchError naming every failure.
    """
    if whole(data):
        return False
    failures = []
    for place in places(PLACES, ARCHIVE, mirror):
        try:
            if isinstance(place, Path):
                if not place.is_file():
                    raise FetchError("there is no such file")
                unpack_zip(place, data / FOLDER)
            else:
                archive = download(place, partial, MOST)
                try:
                    unpack_zip(archive, data / FOLDER)
                finally:
                    archive.unlink()  # used up, or no good
            return True
        except FetchError as error:
            failures.append(f"{without_secrets(place)}: {error}")
    raise FetchError(f"{ARCHIVE} could not be had ({'; '.join(failures)})")


def unpack_zip(
    archive: Path, folder: Path, md5: str = MD5, sha1: str = SHA1, names: list[str] = NAMES
) -> None:
    """Write the files ``names`` of a zip archive into ``folder``, all or none, with a list of their
    sums.

    Nothing but those files is written, and none gets longer than MOST_EACH. Raises FetchError if
    the archive has other sums than those given, holds a path that climbs out or a link, or lacks a
    file; OSError if the disk does not take it.
    """
    _verify(archive, md5, sha1)
    staging = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        sums = {}
        for name, member in _members(archive, names).items():
            _write(archive, member, staging / name)
            sums[name] = sha256(staging / name)
        lines = "".join(f"{sums[name]}  {name}\n" for name in names)
        (staging / SUMS).write_text(lines, encoding="ascii")
        folder.mkdir(exist_ok=True)
        for name in (*names, SUMS):  # the list last: without it the set is not whole
            os.replace(staging / name, folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _verify(archive: Path, md5: str, sha1: str) -> None:
    if archive.stat().st_size > MOST:
        raise FetchError(f"it has more than {MOST:,} bytes, which the archive has not")
    # The sums are what public loaders quote. Two weak ones together still tell a damaged or another
    # archive.
    for name, digest in (("md5", md5), ("sha1", sha1)):
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, name).hexdigest()
        if found != digest:
            raise FetchError(f"the archive's {name.upper()} is not the one that is quoted for it")


def _members(archive: Path, names: list[str]) -> dict[str, zipfile.ZipInfo]:
    """The members of the archive that are wanted, by file name, whatever folder they are in."""
    found: dict[str, zipfile.ZipInfo] = {}
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
    except Exception as error:
        raise damaged(error) from None
    if len(members) > MOST_MEMBERS:
        raise FetchError(f"the archive holds {len(members):,} files, which it has not")
    for member in members:
        place = PurePosixPath(member.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or re.match(r"[A-Za-z]:", member.filename):
            raise FetchError(f"the archive holds a path that climbs out of it, {member.filename!r}")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise FetchError(f"the archive holds a link, {member.filename!r}")
        if not member.is_dir() and place.name in names and "__MACOSX" not in place.parts:
            found[place.name] = member
    if absent := [name for name in names if name not in found]:
        raise FetchError(f"the archive holds no {absent[0]}")
    return {name: found[name] for name in names}


def _write(archive: Path, member: zipfile.ZipInfo, path: Path) -> None:
    """One member to ``path``, however long its header says that it is."""
    left = MOST_EACH
    try:
        with (
            zipfile.ZipFile(archive) as file,
            file.open(member) as source,
            path.open("wb") as target,
        ):
            while piece := source.read(1 << 16):
                left -= len(piece)
                if left < 0:
                    raise FetchError(
                        f"{path.name} unpacks to more than {MOST_EACH:,} bytes, which it has not"
                    )
                target.write(piece)
    except (FetchError, OSError):
        raise
    except Exception as error:  # zipfile and zlib raise many kinds
        raise damaged(error) from None
