"""Unpacking what was fetched: only the files that are wanted, no byte more than they have,
verified.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from nonequilibrium.files import sha256
from replication.data.sources import LARGEST, FetchError

# First bytes of each compression, and what opens it.
_OPENERS: dict[bytes, Callable] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}


class _Bounded:
    """Reads from ``file`` no more than ``most`` bytes; whatever goes wrong in reading is the
    archive's fault, a FetchError.
    """

    def __init__(self, file, most: int):
        self.file, self.most, self.left = file, most, most

    def read(self, size: int = -1) -> bytes:
        try:
            got = self.file.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        except Exception as error:
            raise damaged(error) from None
        self.left -= len(got)
        if self.left < 0:
            raise FetchError(
                f"it unpacks to more than {self.most:,} bytes, which the files have not"
            )
        return got


def damaged(error: Exception) -> FetchError:
    return FetchError(f"the archive is damaged or cut short ({type(error).__name__})")


def unpack(
    archive: Path, sums: dict[str, str], folder: Path, sizes: dict[str, int], most: int = LARGEST
) -> None:
    """Write the files named in ``sums`` from a tar archive, or the one file of a .gz, into
    ``folder`` and verify them.

    sizes: {file: bytes} where known; no file gets longer. most: bytes to unpack in search of them.
    Nothing but those files is ever written, and an archive with a path that climbs out is refused
    whole. Raises FetchError.
    """
    try:
        file = archive.open("rb")
    except OSError as error:
        raise FetchError(f"it cannot be read ({error.strerror})") from None
    with file:
        content = _decompressed(file)
        if ".tar" in archive.name:
            found = _from_tar(_Bounded(content, most), sums, folder, sizes)
        else:
            found = list(sums)
            with (folder / found[0]).open("wb") as target:
                shutil.copyfileobj(_Bounded(content, sizes.get(found[0], most)), target)
    for name, digest in sums.items():
        if name not in found:
            raise FetchError(f"the archive holds no {name}")
        if sha256(folder / name) != digest:
            raise FetchError(f"{name} has the wrong SHA-256")


def _decompressed(file):
    """What ``file`` holds, whatever its compression; twice, as a server may pack once more what it
    sends (Content-Encoding).
    """
    for _ in range(2):
        try:
            start = file.read(6)
            file.seek(0)
        except Exception as error:
            raise damaged(error) from None
        opener = next(
            (opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None
        )
        if opener is None:
            break
        file = opener(file)
    return file


def _from_tar(
    content: _Bounded, sums: dict[str, str], folder: Path, sizes: dict[str, int]
) -> list[str]:
    found = []
    try:
        with tarfile.open(fileobj=cast(Any, content), mode="r|", bufsize=1 << 20) as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts:
                    raise FetchError(
                        f"the archive holds a path that climbs out of it, {member.name!r}"
                    )
                if member.isfile() and place.name in sums:
                    size = sizes.get(place.name, member.size)
                    if member.size != size:
                        raise FetchError(f"{place.name} has {member.size:,} bytes, not {size:,}")
                    with (
                        cast(IO[bytes], tar.extractfile(member)) as source,
                        (folder / place.name).open("wb") as target,
                    ):
                        shutil.copyfileobj(source, target)
                    found.append(place.name)
    except (FetchError, OSError):  # an OSError is of our own disk
        raise
    except Exception as error:  # tarfile raises many kinds
        raise damaged(error) from None
    return found
