"""State of unfinished work on disk, used only by the work that it belongs to.

A sealed file is one line of JSON and then a payload. The line says whose it is, by its
``identity``: everything on which the result depends (code, parameters, data, library versions). It
also has the SHA-256 of identity and payload. A file that is cut, damaged, or belongs to something
else is never used; one sentence on standard error says so, and the work begins anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import torch

from nonequilibrium.errors import one_line
from nonequilibrium.files import save_atomically

KIND = "nonequilibrium, unfinished work"


class Unusable(Exception):
    """A sealed file that is not to be used; its text is the reason."""


def seal(identity: dict, payload: bytes) -> bytes:
    """The bytes of a sealed file."""
    content = {"kind": KIND, "identity": identity}
    return json.dumps(content | {"sha256": _checksum(identity, payload)}).encode() + b"\n" + payload


def unseal(raw: bytes, identity: dict) -> bytes:
    """The payload of a sealed file of this identity; raises Unusable."""
    first, _, payload = raw.partition(b"\n")
    try:
        head = json.loads(first)
        theirs, checksum = head["identity"], head["sha256"]
        whole = head["kind"] == KIND and checksum == _checksum(theirs, payload)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise Unusable("it is damaged, cut short or no checkpoint of this program")
    ours = json.loads(json.dumps(identity))
    differs = sorted(
        name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
    )
    if differs:
        raise Unusable(f"it was begun with other {' and other '.join(differs)}")
    return payload


def _checksum(identity: dict, payload: bytes) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode() + b"\n")
    digest.update(payload)
    return digest.hexdigest()


def _read(path: Path, identity: dict) -> bytes | None:
    """The payload at ``path``, or None if there is none to be used; then one sentence says why,
    unless there is no file.
    """
    try:
        return unseal(path.read_bytes(), identity)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (Unusable, OSError) as error:
        begin_anew(path, error)
        return None


def begin_anew(path: Path, reason: Exception) -> None:
    """Say that ``path`` is not used."""
    print(f"{path.name} is not used, the work begins anew: {one_line(reason)}", file=sys.stderr)


def write_state(path: Path, identity: dict, state: dict) -> None:
    """Save tensors and numbers for ``read_state``; raises OSError."""
    # By way of memory: torch's own writer raises errors of another kind where the disk is full.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    raw = seal(identity, buffer.getvalue())
    save_atomically(path, lambda temporary: temporary.write_bytes(raw))


def read_state(path: Path, identity: dict) -> dict | None:
    """What ``write_state`` saved, on the CPU whatever device it came from; None if it is not there
    or not to be used.
    """
    payload = _read(path, identity)
    if payload is None:
        return None
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        begin_anew(path, error)
        return None


def step_of(path: Path) -> int | None:
    """The step after which a checkpoint was saved, whosever it is; None where there is no whole
    one.
    """
    try:
        payload = path.read_bytes().partition(b"\n")[2]
        return int(torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)["step"])
    except Exception:  # torch raises many kinds
        return None


def write_result(path: Path, identity: dict, result: dict) -> None:
    """Save a finished part of longer work for ``read_result``; where that fails one sentence says
    so and the work goes on.
    """
    raw = seal(identity, json.dumps(result).encode())
    try:
        save_atomically(path, lambda temporary: temporary.write_bytes(raw))
    except OSError as error:
        print(
            f"{path.name} could not be saved ({one_line(error)}); the work goes on", file=sys.stderr
        )


def read_result(path: Path, identity: dict) -> dict | None:
    """What ``write_result`` saved; None if it is not there or not to be used."""
    payload = _read(path, identity)
    return None if payload is None else json.loads(payload)
