"""A picture file as it is: its levels, the level that is white, and where it is opaque. Every
reader of pictures stands on this.

The range of a picture comes from its file's kind (its bits), never from its brightest pixel.
Orientation is applied. Several frames are refused. Pillow is imported here, so whoever can do
without it imports this module where it is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from nonequilibrium.errors import Refusal, one_line

# Kinds that say by their first bytes what they are. PostScript and the like, which run a program,
# are not among them.
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF", "QOI")
MOST_BYTES = 64 * 2**20  # of a file
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
NO_WHITE = "holds whole numbers with a sign or of 32 bits, whose white is not defined; save it with 8 or 16 bits"
UNSCALED_KEY = (
    "RGB;16B",
    "L;2",
    "L;4",
)  # a PNG's one transparent colour is in its own bits; Pillow compares it with 8
SizeCheck = Callable[[tuple[int, int], bool], None]


class PictureError(Refusal, ValueError):
    """A picture that cannot be read or written, or has another size than is wanted."""


class Levels(NamedTuple):
    """A picture as its file has it: values (h, w, 1 or 3), float64; the level that is white; opaque
    (h, w), bool.
    """

    values: np.ndarray
    white: float | None  # None if not defined
    opaque: np.ndarray
    doubt: str = ""  # why white is not defined


def contents(path: Path, kind: str) -> bytes:
    """The whole file; raises PictureError unless it is an ordinary file of at most MOST_BYTES."""
    try:
        if not path.is_file():
            reason = "it is no ordinary file" if path.exists() else "there is no such file"
            raise PictureError(f"{path} cannot be read as {kind}: {reason}")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PictureError(
            f"{path} cannot be read as {kind}: {error.strerror or one_line(error)}"
        ) from None
    if len(data) > MOST_BYTES:
        raise PictureError(
            f"{path} cannot be read as {kind}: it has more than {MOST_BYTES // 2**20} MB"
        )
    return data


def decode(path: Path, check: SizeCheck) -> Levels:
    """The picture in its own levels, upright; raises PictureError.

    check: called with (width, height), whether it is upright yet. It raises for a size that is not
    wanted, before pixels are decompressed and after the picture was turned.
    """
    data = contents(path, "a picture")
    try:
        # Of what Pillow warns, the size is checked and the rest is no news.
        with warnings.catch_warnings(action="ignore"), _overheard() as said:
            levels = _decode_bytes(path, data, check)
        if said:  # libtiff goes on after some errors, with pixels of its own making
            raise PictureError(f"{path} cannot be read as a picture: {said[0]}")
        return levels
    except Refusal:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise PictureError(
            f"{path} cannot be read as a picture: it is damaged or of no kind that is read ({kinds})"
        ) from None
    except Image.DecompressionBombError:
        raise PictureError(f"{path} is far too large") from None
    except Exception as error:  # a broken file makes Pillow raise errors of any kind
        raise PictureError(f"{path} cannot be read as a picture: {one_line(error):.200}") from None


@contextlib.contextmanager
def _overheard():
    """A list that afterwards has the lines that a C library (libtiff) wrote to standard error
    meanwhile; nobody sees them.
    """
    said: list[str] = []
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            yield said
            file.seek(0)
            said += file.read().decode(errors="replace").splitlines()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _decode_bytes(path: Path, data: bytes, check: SizeCheck) -> Levels:
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        check(picture.size, False)  # it may still lie on its side
        try:
            picture.seek(1)
        except EOFError:
            pass
        else:
            raise PictureError(
                f"{path} has more than one frame or page; save the one that is meant by itself"
            )
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        picture.verify()  # a PNG's check sums; it has to be opened again afterwards
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        if (
            picture.format == "PNG"
            and picture.tile[0].args in UNSCALED_KEY
            and "transparency" in picture.info
        ):
            raise PictureError(
                f"{path} names a transparent colour in other than 8 bits; save it with an alpha channel"
            )
        tags = dict(picture.tag_v2) if isinstance(picture, TiffImageFile) else {}
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        check(upright.size, True)
        return _levels(path, upright, picture.format or "", tags)


def _levels(path: Path, picture: Image.Image, kind: str, tags: dict) -> Levels:
    """What a decoded picture's mode and, of a TIFF, its tags say about its range."""
    opaque = np.ones(picture.size[::-1], dtype=bool)
    signed = 2 in tags.get(SAMPLE_FORMAT, ())
    if picture.mode[0] not in "IF":
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            opaque = np.asarray(picture)[..., 3] == 255
        values, white = (
            np.asarray(picture.convert("RGB")).astype(np.float64),
            None if signed else 255,
        )
        return Levels(values, white, opaque, NO_WHITE)
    values = np.asarray(picture).astype(np.float64)
    if "transparency" in picture.info:
        opaque = values != picture.info["transparency"]
    white, doubt = None, NO_WHITE
    if picture.mode.startswith("I;16"):
        white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    elif picture.mode == "I" and kind == "PPM":
        white = 2**16 - 1  # Pillow has scaled it
    elif picture.mode == "F":
        low, high = values.min(), values.max()
        if not np.isfinite(values).all():
            raise PictureError(
                f"{path} holds numbers that are not finite; every pixel must have a value"
            )
        # Values a little above 1 are 0..1 that was filtered: read as 0..255 the picture would be
        # black.
        white = 1 if low >= 0 and high <= 1 else 255 if low >= 0 and 32 <= high <= 255 else None
        doubt = f"holds floats from {low:g} to {high:g}; they must lie in 0..1, or in 0..255 and reach 32"
    if (
        tags.get(PHOTOMETRIC) == 0 and white is not None
    ):  # 0 is white, which Pillow minds up to 8 bits only
        values = white - values
    return Levels(values[..., None], white, opaque, doubt)


def as_pixels(path: Path, levels: Levels, channels: int) -> np.ndarray:
    """Levels as uint8 (h, w, channels): whole numbers keep their upper 8 bits; colour becomes grey
    by ITU-R BT.601.

    Raises PictureError where white is not defined.
    """
    if levels.white is None:
        raise PictureError(f"{path} {levels.doubt}")
    if np.array_equal(levels.values, np.trunc(levels.values)) and levels.white > 1:
        array = np.floor(levels.values * 256 / (levels.white + 1))
    else:
        array = np.rint(levels.values * 255 / levels.white)
    array = array.astype(np.uint8)
    if array.shape[-1] == 3 and channels == 1:
        array = np.asarray(Image.fromarray(array).convert("L"))[..., None]
    return np.broadcast_to(array, (*array.shape[:2], channels)).copy()
