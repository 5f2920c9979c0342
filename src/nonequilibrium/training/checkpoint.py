"""State of unfinished work on disk, used only by the work that it belongs to.

A sealed file is one line of JSON, with the ``identity`` of the work (all that its result depends
on: code, parameters, data, library versions) and a SHA-256, and then a payload. A damaged file, or
one of another identity, is never used: one sentence says so, and the work begins anew.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nonequilibrium.errors import one_line
from nonequilibrium.files import save_contents, say

KIND = "nonequilibrium, unfinished work"


class Checkpoint(NamedTuple):
    """Where a training saves its state, at most every ``every_seconds`` and after the last step.

    identity: all that the result depends on beside the number of steps and the seed.
    """

    path: Path
    identity: dict[str, Any] = {}
    every_seconds: float = 20.0


def seal(identity: dict, payload: bytes) -> bytes:
    """The bytes of a sealed file."""
    head = {"kind": KIND, "identity": identity, "sha256": _checksum(identity, payload)}
    return json.dumps(head).encode() + b"\n" + payload


def unseal(raw: bytes, identity: dict) -> bytes:
    """The payload of a sealed file of this identity; ValueError says why it is not to be used."""
    first, _, payload = raw.partition(b"\n")
    try:
        head = json.loads(first)
        found = head["identity"]
        whole = head["kind"] == KIND and head["sha256"] == _checksum(found, payload)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError("it is damaged, cut short or no checkpoint of this program")
    wanted = json.loads(json.dumps(identity))
    names = sorted(wanted.keys() | found.keys())
    differ = [name for name in names if wanted.get(name) != found.get(name)]
    if differ:
        raise ValueError(f"it was begun with other {' and other '.join(differ)}")
    return payload


def _checksum(identity: dict, payload: bytes) -> str:
    text = json.dumps(identity, sort_keys=True).encode()
    return hashlib.sha256(text + b"\n" + payload).hexdigest()


def write_state(path: Path, identity: dict, state: dict) -> None:
    """Save tensors and numbers for ``read_state``; raises OSError."""
    buffer = io.BytesIO()  # torch's own writer raises errors of another kind where the disk is full
    torch.save(state, buffer)
    save_contents({path: seal(identity, buffer.getvalue())})


def read_state(path: Path, identity: dict) -> dict | None:
    """The state that ``write_state`` saved, on the CPU; None if there is none to be used."""
    try:
        payload = io.BytesIO(unseal(path.read_bytes(), identity))
        return torch.load(payload, map_location="cpu", weights_only=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # torch raises many kinds
        say(f"{path.name} is not used, the work begins anew: {one_line(error)}")
        return None


def write_result(path: Path, identity: dict, result: dict) -> None:
    """Save a part of longer work for ``read_state``; where that fails, the work goes on."""
    try:
        write_state(path, identity, result)
    except OSError as error:
        say(f"{path.name} could not be saved ({one_line(error)}); the work goes on")
