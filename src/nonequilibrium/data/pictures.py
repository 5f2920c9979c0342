"""Pictures of any size from files, to train on: one's own and those that were fetched.

What a picture is comes from its file's kind, never from its brightest pixel. Orientation is applied, 16 bits keep their upper 8.
Several frames, pixels that are not opaque, and numbers whose white is not defined are refused.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.data.images import DataError
from nonequilibrium.errors import Refusal, one_line

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# Kinds that say by their first bytes what they are, by the endings of their names.
KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".pnm": "PPM",
}
MOST_BYTES = 256 * 2**20  # of a file
MOST_PIXELS = 2**26  # of a picture: 8,192 × 8,192


def read_any(path: Path, channels: int) -> Tensor:
    """A picture of any size as uint8 (channels, h, w), 1 for grey or 3 for colour; raises DataError with the reason.

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).
    """
    from PIL import (
        Image,
        UnidentifiedImageError,
    )  # here, because a machine that trains on other images need not have it

    try:
        if not path.is_file():
            reason = "it is no ordinary file" if path.exists() else "there is no such file"
            raise DataError(f"{path} cannot be read as a picture: {reason}")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"{path} cannot be read as a picture: it has more than {MOST_BYTES // 2**20} MB")
        with warnings.catch_warnings(action="ignore"):  # of what Pillow warns, the size is checked here
            picture = _upright(path, data)
        array = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except Refusal:
        raise
    except UnidentifiedImageError:
        kinds = ", ".join(sorted(set(KINDS.values())))
        raise DataError(
            f"{path} cannot be read as a picture: it is damaged or of no kind that is read ({kinds})"
        ) from None
    except Image.DecompressionBombError:
        raise DataError(f"{path} is too large; a picture may have {MOST_PIXELS:,} pixels") from None
    except Exception as error:  # a broken file makes Pillow raise errors of any kind
        raise DataError(f"{path} cannot be read as a picture: {one_line(error):.200}") from None
    return torch.from_numpy(array.reshape(*array.shape[:2], channels).copy()).movedim(-1, 0).contiguous()


def _upright(path: Path, data: bytes) -> Picture:
    """The picture as its orientation says, with 8 bits a channel. Its size is checked before its pixels are decompressed."""
    from PIL import Image, ImageOps

    formats = sorted(set(KINDS.values()))
    with Image.open(io.BytesIO(data), formats=formats) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise DataError(f"{path} is {width}×{height}; a picture may have {MOST_PIXELS:,} pixels, so scale it down")
        if getattr(picture, "n_frames", 1) > 1:
            raise DataError(f"{path} has more than one frame or page; save the one that is meant by itself")
    with Image.open(io.BytesIO(data), formats=formats) as picture:
        picture.verify()  # a PNG's check sums; it has to be opened again afterwards
    with Image.open(io.BytesIO(data), formats=formats) as picture:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        kind = picture.format
    if upright.mode.startswith("I;16") or (upright.mode == "I" and kind in ("PNG", "PPM")):
        if "transparency" in upright.info:
            raise DataError(f"{path} has a transparent colour; save it without")
        levels = np.asarray(upright).astype(np.int64)
        return Image.fromarray((levels >> 8).clip(0, 255).astype(np.uint8))
    if upright.mode[0] in "IF":
        raise DataError(f"{path} holds numbers whose white is not defined; save it with 8 or 16 bits a channel")
    if upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255:
        raise DataError(f"{path} has pixels that are not opaque; save it without transparency")
    return upright.convert("RGB")
