"""Where things are, atomic writes, hashes: the ground on which every other module stands."""

from __future__ import annotations

import ast
import contextlib
import functools
import glob
import hashlib
import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from nonequilibrium.errors import Refusal, one_line


def _root() -> Path:
    """The checkout that this code is part of; where the code is installed apart from it, the one that the process was started in."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "params.yaml").exists():
        return checkout
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), here)


ROOT = _root()
PACKAGE = Path(__file__).resolve().parent
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")  # names that ``save_atomically`` gives and no one else
STALE = 24 * 3600.0  # seconds after which a temporary belongs to a run that was killed


class OutputError(Refusal):
    """A place where nothing can be written."""


def commit() -> str | None:
    """The checkout's commit in twelve digits; None where there is no git, or no clone but an unpacked archive."""
    if not (ROOT / ".git").exists():  # git itself would ask the folders above, which are another project's
        return None
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quiet() -> bool:
    """True in CI and under nbval, where a progress bar would only make noise."""
    said = (os.environ.get(name, "").strip().lower() for name in ("CI", "NONEQUILIBRIUM_QUIET"))
    return any(word not in ("", "0", "false", "no", "off") for word in said)


# ---------------------------------------------------------------- writing


def save_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path`` and rename it: ``path`` is whole or absent at any moment.

    The file's mode is the one that the umask gives, whatever ``write`` made of it. Raises what ``write`` raises.
    """
    save_together({path: write})


def save_together(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """Like ``save_atomically`` for files that belong together: none is renamed before all are written."""
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
    """Remove a file that ``save_atomically`` wrote, and what runs that were killed in the middle of writing it left."""
    if path.is_file():
        path.unlink(missing_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if TEMPORARY.fullmatch(left.name):
            left.unlink(missing_ok=True)


def sweep(folder: Path, older_than: float = STALE) -> list[Path]:
    """Remove the temporaries that killed runs left in ``folder``, by their name and their age in seconds; returns them."""
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


def check_writable(*paths: Path) -> None:
    """Make the folders of ``paths`` and try to write in each; raises OutputError. For use before slow work whose result goes there."""
    for path in paths:
        try:
            if path.is_dir():
                raise IsADirectoryError("it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            probe = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
            try:
                probe.write_bytes(b"probe")
            finally:
                probe.unlink(missing_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise OutputError(f"{path} cannot be written: {one_line(error)}") from None


def to_json(content: dict) -> str:
    """JSON in a form that equal contents give equal bytes."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, content: dict) -> None:
    """Write JSON atomically."""
    save_atomically(path, lambda temporary: temporary.write_text(to_json(content), encoding="utf-8"))


# ---------------------------------------------------------------- digests


def fingerprint(settings: dict) -> str:
    """A short hash of a mapping, for file names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def code_digest(paths: Iterable[Path]) -> str:
    """What the code in ``paths`` (Python files, and folders with all Python files in them) does, as a SHA-256 in hexadecimal.

    It is taken from the syntax trees, so it does not depend on comments, docstrings, formatting, line ends, the order of ``paths``
    or where the folders lie; file names inside the folders count. A file that is not Python counts by its bytes.
    """
    sources: dict[str, Path] = {}
    for path in map(Path, paths):
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        sources |= {file.relative_to(path.parent).as_posix(): file for file in files}
    digest = hashlib.sha256()
    for name, file in sorted(sources.items()):
        digest.update(f"{name}\0{_meaning(file.read_bytes())}\0".encode())
    return digest.hexdigest()


def tree_digest(nodes: Iterable[ast.AST]) -> str:
    """The same of pieces of a syntax tree."""
    return hashlib.sha256("".join(map(_plain, nodes)).encode()).hexdigest()


@functools.lru_cache(maxsize=512)  # for a process that asks often; the bytes are the key
def _meaning(source: bytes) -> str:
    try:
        return _plain(ast.parse(source))
    except (SyntaxError, ValueError):
        return hashlib.sha256(source).hexdigest()


def _plain(node) -> str:
    """A syntax tree as text without places, docstrings and empty fields (which differ between versions of Python)."""
    if isinstance(node, list):
        return f"[{','.join(_plain(item) for item in node if not _is_text_alone(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    inner = ",".join(f"{name}={_plain(value)}" for name, value in fields if value is not None and value != [])
    return f"{type(node).__name__}({inner})"


def _is_text_alone(node) -> bool:
    """Whether a statement is nothing but a string: a docstring, or one in all but its place."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
