"""Where things are, places that can be written, hashes: the ground of every other module."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
from pathlib import Path

from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import save_contents


def _root() -> Path:
    """The clone that this code is part of; else the one that the process was started in."""
    here = Path.cwd()
    places = (Path(__file__).resolve().parents[1], here, *here.parents)
    return next((folder for folder in places if (folder / "params.yaml").exists()), here)


ROOT = _root()


class OutputError(Refusal):
    """A place where nothing can be written."""


def commit() -> str | None:
    """The clone's commit in twelve digits; None without git, or in an unpacked archive."""
    if not (ROOT / ".git").exists():  # git would ask the folders above, which are not ours
        return None
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def is_path(text: str) -> bool:
    """Whether a text can be a path: no zero byte, no home of a user who does not exist."""
    try:
        return bool(text.strip() and Path(text).expanduser()) and "\0" not in text
    except RuntimeError:
        return False


def check_writable(*paths: Path) -> None:
    """Make the folders of ``paths`` and try to write in each, before slow work whose result goes
    there; raises OutputError.
    """
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
    save_contents({path: to_json(content).encode()})


def fingerprint(settings: dict) -> str:
    """A short hash of a mapping, for file names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
