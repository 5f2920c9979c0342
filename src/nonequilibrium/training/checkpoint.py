"""State of unfinished work on disk, used only by the work that it belongs to: of one ``identity``,
all that the result depends on (code, settings, data, library versions), and not damaged.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nonequilibrium.errors import one_line
from nonequilibrium.files import save_contents, say


class Checkpoint(NamedTuple):
    """Where a training saves its state."""

    path: Path
    identity: dict[str, Any] = {}  # but for the number of steps and the seed
    every_seconds: float = 20.0  # at most, and after the last step


def write_state(path: Path, identity: dict, state: dict) -> None:
    """Save tensors and numbers for ``read_state``; raises OSError."""
    buffer = io.BytesIO()  # torch's own writer raises errors of another kind where the disk is full
    torch.save({"identity": identity, "state": state}, buffer)
    payload = buffer.getvalue()
    save_contents({path: hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload})


def read_state(path: Path, identity: dict) -> dict | None:
    """The state that ``write_state`` saved, on the CPU; None if there is none to be used."""
    try:
        digest, _, payload = path.read_bytes().partition(b"\n")
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            raise ValueError("it is damaged, cut short or no checkpoint of this program")
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        begun = content["identity"]
        names = sorted(begun.keys() | identity.keys())
        if differ := [name for name in names if begun.get(name) != identity.get(name)]:
            raise ValueError(f"it was begun with other {' and other '.join(differ)}")
        return content["state"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # torch raises many kinds
        say(f"{path.name} is not used, the work begins anew: {one_line(error)}")
        return None
