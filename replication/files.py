"""Where things are, atomic writes, hashes: the ground on which every other module stands."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
from pathlib import Path

from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import save_atomically


def _root() -> Path:
    """The checkout that this code is part of; where the code is installed apart from it, the one
    that the process was started in.
    """
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "params.yaml").exists():
        return checkout
    here = Path.cwd()
    return next(
        (folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), here
    )


ROOT = _root()
PACKAGES = (ROOT / "src" / "nonequilibrium", ROOT / "replication")


class OutputError(Refusal):
    """A place where nothing can be written."""


def commit() -> str | None:
    """The checkout's commit in twelve digits; None where there is no git, or no clone but an
    unpacked archive.
    """
    if not (
        ROOT / ".git"
    ).exists():  # git itself would ask the folders above, which are another project's
        return None
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def check_writable(*paths: Path) -> None:
    """Make the folders of ``paths`` and try to write in each; raises OutputError. For use before
    slow work whose result goes there.
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
    save_atomically(
        path, lambda temporary: temporary.write_text(to_json(content), encoding="utf-8")
    )


def fingerprint(settings: dict) -> str:
    """A short hash of a mapping, for file names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
