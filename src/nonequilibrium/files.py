"""Files that are whole or absent at any moment, whatever ends the process that writes them."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# Names that ``save_atomically`` gives and no one else.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
STALE = 24 * 3600.0  # seconds after which a temporary belongs to a run that was killed


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quiet() -> bool:
    """True in CI and under nbval, where a progress bar would only make noise."""
    said = (os.environ.get(name, "").strip().lower() for name in ("CI", "NONEQUILIBRIUM_QUIET"))
    return any(word not in ("", "0", "false", "no", "off") for word in said)


def save_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path`` and rename it: ``path`` is whole or
    absent at any moment.

    The file's mode is the one that the umask gives, whatever ``write`` made of it. Raises what
    ``write`` raises.
    """
    save_together({path: write})


def save_together(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """Like ``save_atomically`` for files that belong together: none is renamed before all are
    written.
    """
    temporaries = []
    try:
        for path, write in writes.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            # A random name: process numbers repeat in containers that share a disk.
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
            temporaries.append(temporary)
            with temporary.open("xb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
            write(temporary)
            if temporary.stat().st_mode & 0o777 != mode:
                temporary.chmod(mode)
        for temporary, path in zip(temporaries, writes, strict=True):
            os.replace(temporary, path)
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def save_contents(contents: Mapping[Path, bytes]) -> None:
    """Like ``save_together``, from the bytes of each file."""

    def writer(raw: bytes) -> Callable[[Path], object]:
        return lambda temporary: temporary.write_bytes(raw)

    save_together({path: writer(raw) for path, raw in contents.items()})


def forget(path: Path) -> None:
    """Remove a file that ``save_atomically`` wrote, and what runs that were killed in the middle of
    writing it left.
    """
    if path.is_file():
        path.unlink(missing_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if TEMPORARY.fullmatch(left.name):
            left.unlink(missing_ok=True)


def sweep(folder: Path, older_than: float = STALE) -> list[Path]:
    """Remove the temporaries that killed runs left in ``folder``, by their name and their age in
    seconds; returns them.
    """
    swept = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if not TEMPORARY.fullmatch(path.name):
                continue
            with contextlib.suppress(OSError):  # another process may sweep too
                if path.is_file() and time.time() - path.lstat().st_mtime > older_than:
                    path.unlink()
                    swept.append(path)
    return swept
