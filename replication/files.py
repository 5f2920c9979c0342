"""Where things are, places that can be written, hashes: the ground of every other module."""

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

from nonequilibrium.errors import ParameterError, Refusal
from nonequilibrium.files import save_contents

# The clone that this code is part of; else the one that the process was started in.
_ABOVE = (Path(__file__).resolve().parents[1], Path.cwd(), *Path.cwd().parents)
ROOT = next((folder for folder in _ABOVE if (folder / "params.yaml").exists()), Path.cwd())
PLACES = ("metrics", "measured", "figures", "models", "reports/plots")  # where notebooks write
ROOM = 2**20  # bytes that must be left where something is to be written


class OutputError(Refusal):
    """A place where nothing can be written."""


def commit() -> str | None:
    """The clone's commit in twelve digits; None without git, or in an unpacked archive."""
    if not (ROOT / ".git").exists():  # git would ask the folders above, which are not ours
        return None
    command, unheard = ["git", "rev-parse", "--short=12", "HEAD"], subprocess.DEVNULL
    try:
        text = subprocess.check_output(command, cwd=ROOT, stderr=unheard, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip()


def is_path(text: str) -> bool:
    """Whether a text can be a path: no zero byte, no home of a user who does not exist."""
    try:
        return bool(text.strip() and Path(text).expanduser()) and "\0" not in text
    except RuntimeError:
        return False


def check_writable(*paths: Path) -> None:
    """Raises OutputError unless files of these paths can be written; folders may be missing yet."""
    for path in paths:
        try:
            above = next(folder for folder in path.parents if os.path.lexists(folder))
            if path.is_dir() or not above.is_dir():
                raise OSError("it is a folder" if path.is_dir() else f"{above} is not a folder")
            with tempfile.TemporaryFile(dir=above) as probe:
                probe.write(bytes(ROOM))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None


def folder_for(outputs: str | Path | None) -> Path | None:
    """The folder of a notebook's ``outputs``; raises OutputError unless it can be written."""
    if outputs is None:
        return None
    if not isinstance(outputs, str | Path) or not is_path(str(outputs)):
        raise ParameterError(f"outputs is {str(outputs)[:60]!r}; it must be a folder")
    folder = Path(outputs).expanduser().resolve()
    check_writable(*(folder / place / "file" for place in PLACES))
    return folder


def to_json(content: dict) -> str:
    """JSON; equal contents give equal bytes."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, content: dict) -> None:
    """Write JSON atomically."""
    save_contents({path: to_json(content).encode()})


def fingerprint(settings: dict) -> str:
    """A short hash of a mapping, for file names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
