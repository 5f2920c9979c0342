"""Downloading over HTTP from servers of any temper: resumed, bounded in bytes and in patience."""

from __future__ import annotations

import hashlib
import os
import queue
import re
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm.auto import tqdm

from nonequilibrium.files import quiet
from replication.data.sources import LARGEST, FetchError, without_secrets

WINDOW = 30  # seconds over which a server's rate is judged, the first of them from the request on
SLOWEST = 5_000  # bytes a second; below, a server is given up
KEPT = "what came is kept to resume from"


def download_path(address: str, partial: Path) -> Path:
    """Where the download of ``address`` stands once it is whole; ".part" is added to its name until
    then.
    """
    name = PurePosixPath(without_secrets(address)).name
    return (
        partial
        / f"{hashlib.sha256(address.encode(errors='surrogateescape')).hexdigest()[:8]}-{name}"
    )


def part_path(address: str, partial: Path) -> Path:
    """Where what came of ``address`` waits to be resumed."""
    finished = download_path(address, partial)
    return finished.with_name(finished.name + ".part")


def download(address: str, partial: Path, most: int = LARGEST) -> Path:
    """Download ``address`` into ``partial``, resuming an earlier attempt where the server allows
    it; returns the file.

    most: bytes beyond which it cannot be what is wanted. Raises FetchError if the server does not
    give it, OSError if the disk does not take it.
    """
    partial.mkdir(parents=True, exist_ok=True)
    finished, unfinished = download_path(address, partial), part_path(address, partial)
    have = unfinished.stat().st_size if unfinished.exists() else 0
    pieces = _pieces(address, have)
    reply = next(pieces)
    if have and _begins_elsewhere(reply, have):
        if reply.status_code == 416 and _total(reply, have) == have:  # it was whole already
            os.replace(unfinished, finished)
            return finished
        pieces.close()
        unfinished.unlink()  # the file there is not the one that was begun
        have, pieces = 0, _pieces(address, 0)
        reply = next(pieces)
    if reply.status_code not in (200, 206) or _begins_elsewhere(reply, have):
        raise FetchError(f"the server answered {reply.status_code}")
    encoding = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):  # gzip is dealt with in unpacking
        raise FetchError(
            f"the server packs what it sends with {encoding!r}, which was not asked for"
        )
    have = have if reply.status_code == 206 else 0
    total = _total(reply, have)
    if max(have, total or 0) > most:
        raise FetchError(
            f"the server offers {max(have, total or 0):,} bytes, more than the {most:,} it could be"
        )
    _write(pieces, unfinished, have, total, most)
    os.replace(unfinished, finished)
    return finished


def _write(pieces: Iterator[bytes], path: Path, have: int, total: int | None, most: int) -> None:
    bar = tqdm(
        total=total, initial=have, unit="B", unit_scale=True, desc=path.stem[9:], disable=quiet()
    )
    with path.open("ab" if have else "wb") as file, bar:
        for piece in pieces:
            have += len(piece)
            if have > (total or most):
                path.unlink()
                raise FetchError(f"the server sends more than {total or most:,} bytes")
            file.write(piece)
            bar.update(len(piece))
    if total is not None and have < total:
        raise FetchError(f"the download ended early; {KEPT}")


def _begins_elsewhere(reply, have: int) -> bool:
    """True if an answer to "from byte ``have`` on" is no continuation, though not the whole file
    either.
    """
    begin = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
    return reply.status_code == 416 or (
        reply.status_code == 206 and begin is not None and int(begin[1]) != have
    )


def _total(reply, have: int) -> int | None:
    """Bytes of the whole file by the headers; None if they do not say so intelligibly."""
    whole = re.fullmatch(r"bytes [^/]*/(\d{1,15})", reply.headers.get("Content-Range", "").strip())
    if whole:
        return int(whole[1])
    rest = reply.headers.get("Content-Length", "").strip()
    return (
        have + int(rest)
        if re.fullmatch(r"[0-9]{1,15}", rest) and reply.status_code != 416
        else None
    )


def _pieces(address: str, have: int) -> Generator[Any, None, None]:
    """The server's reply to "from byte ``have`` on", then its bytes as they come over the wire;
    raises FetchError.

    A thread of its own reads from the network: a server that sends a byte a second, even of its
    headers, holds that thread up and not this one. An abandoned thread ends with its socket's
    time-out or with the process.
    """
    import requests  # here, because a machine that only trains need not have it

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    came: queue.Queue = queue.Queue(64)
    given_up = threading.Event()

    def hand_over(item) -> None:
        while not given_up.is_set():
            try:
                return came.put(item, timeout=1)
            except queue.Full:
                pass

    def read() -> None:
        try:
            with requests.get(
                address, stream=True, timeout=(min(10, WINDOW), WINDOW), headers=headers
            ) as reply:
                hand_over(reply)
                while not given_up.is_set() and (
                    piece := reply.raw.read1(1 << 16, decode_content=False)
                ):
                    hand_over(piece)
            hand_over(None)
        except Exception as error:  # requests, urllib3, http.client, idna and ssl raise many kinds
            hand_over(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        begun, received, replied = time.monotonic(), 0, False
        while True:
            try:
                item = came.get(timeout=max(0, begun + WINDOW - time.monotonic()))
            except queue.Empty:
                item = b""
            if item is None:
                return
            if isinstance(item, Exception):
                kept = f"; {KEPT}" if replied or have else ""
                raise FetchError(f"the download failed ({type(item).__name__}){kept}") from None
            replied = True if item else replied
            received += len(item) if isinstance(item, bytes) else 0
            if time.monotonic() - begun >= WINDOW:
                if received < SLOWEST * WINDOW:
                    raise FetchError(
                        f"the server sends less than {SLOWEST:,} bytes a second; {KEPT}"
                    )
                begun, received = time.monotonic(), 0
            if item != b"":
                yield item
    finally:
        given_up.set()
