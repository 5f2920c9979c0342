"""Files that are whole or absent at any moment, and words on standard error that end no work."""

import contextlib
import hashlib
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")  # names that ``save_together`` alone gives
STALE = 24 * 3600.0  # seconds after which a temporary belongs to a run that was killed


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_together(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """Let each function write a temporary file beside its path, then rename all, with the umask's
    mode; raises what the functions raise.
    """
    temporaries = []
    try:
        for path, write in writes.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            # A random name: process numbers repeat in containers that share a disk.
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
            temporaries.append(temporary)
            temporary.touch(exist_ok=False)
            mode = temporary.stat().st_mode
            write(temporary)
            if temporary.stat().st_mode != mode:
                temporary.chmod(mode)
        for temporary, path in zip(temporaries, writes, strict=True):
            os.replace(temporary, path)
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def save_contents(contents: Mapping[Path, bytes]) -> None:
    """``save_together`` from the bytes of each file."""
    save_together({path: partial(Path.write_bytes, data=raw) for path, raw in contents.items()})


def sweep(folder: Path, older_than: float = STALE, name: str = "*") -> list[Path]:
    """Remove the temporaries in ``folder`` that are older than so many seconds; returns them."""
    swept = []
    for path in filter(lambda path: TEMPORARY.fullmatch(path.name), folder.glob(f".{name}.*.tmp")):
        with contextlib.suppress(OSError):  # another process may sweep too
            if path.is_file() and time.time() - path.lstat().st_mtime >= older_than:
                path.unlink()
                swept.append(path)
    return swept


def quiet() -> bool:
    """Whether progress bars would only make noise, as in CI and under nbval."""
    said = (os.environ.get(name, "").strip().lower() for name in ("CI", "NONEQUILIBRIUM_QUIET"))
    return any(word not in ("", "0", "false", "no", "off") for word in said)


class _StandardError:
    """Standard error; what it cannot write, because it is closed or full, is dropped."""

    def __getattr__(self, name: str):
        return getattr(sys.stderr, name)

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()


def bar(iterable=None, **options):
    """tqdm's progress bar on standard error, where it can be written; none where ``quiet``."""
    from tqdm.auto import tqdm  # slow to import

    options |= {"disable": quiet() or sys.stderr is None, "dynamic_ncols": True}
    return tqdm(iterable, file=_StandardError(), **options)


def say(text: str) -> None:
    """A line on standard error, above any progress bar, where it can be written."""
    from tqdm import tqdm

    tqdm.write(text, file=_StandardError())
