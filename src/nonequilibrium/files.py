"""Where things are, atomic writes, hashes: the ground on which every other module stands."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path


def _root() -> Path:
    """The checkout that this code is part of; where the code is installed apart from it, the one that the process was started in."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "params.yaml").exists():
        return checkout
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), here)


ROOT = _root()


def commit() -> str | None:
    """The checkout's commit in twelve digits; None where there is no git, or no clone but an unpacked archive."""
    if not (ROOT / ".git").exists():  # git itself would ask the folders above, which are another project's
        return None
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or None
    except OSError:
        return None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quiet() -> bool:
    """True in CI and under nbval, where a progress bar would only make noise."""
    said = (os.environ.get(name, "").strip().lower() for name in ("CI", "NONEQUILIBRIUM_QUIET"))
    return any(word not in ("", "0", "false", "no", "off") for word in said)


def save_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a temporary file beside ``path`` and rename it: ``path`` is whole or absent at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(settings: dict) -> str:
    """A short hash of everything a run depends on, by which a checkpoint knows whose it is."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def write_json(path: Path, content: dict) -> None:
    """Write JSON atomically, in a form that equal contents give equal bytes."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    save_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_csv(path: Path, table) -> None:
    """Write a pandas table as CSV atomically."""
    save_atomically(path, lambda temporary: table.to_csv(temporary, index=False))
