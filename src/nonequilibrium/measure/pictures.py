"""Pictures and masks from files, and a picture to a file, without a pixel that is misread and unsaid.

The range of a picture comes from its file's kind (its bits), never from its brightest pixel. Orientation is applied. A pixel that is
not fully opaque counts as missing. Several frames, and numbers whose white is not defined, are refused.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from nonequilibrium.diffusion.posterior import MaskError
from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import save_together

# Kinds that say by their first bytes what they are. PostScript and the like, which run a program, are not among them.
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF", "QOI")
LOSSLESS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM", ".pnm": "PPM"}
MOST_BYTES = 64 * 2**20  # of a file; a picture of a model's size needs a thousandth
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
ARCHIVE = b"PK"  # how .npz begins
NO_WHITE = "holds whole numbers with a sign or of 32 bits, whose white is not defined; save it with 8 or 16 bits"
UNSCALED_KEY = ("RGB;16B", "L;2", "L;4")  # a PNG's one transparent colour is in its own bits; Pillow compares it with 8


class PictureError(Refusal, ValueError):
    """A picture that cannot be read or written, or has another size than the model's."""


class Levels(NamedTuple):
    """A picture as its file has it: values (h, w, 1 or 3), float64; the level that is white; opaque (h, w), bool."""

    values: np.ndarray
    white: float | None  # None if not defined
    opaque: np.ndarray
    doubt: str = ""  # why white is not defined


def read_picture(path: Path, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """The picture as uint8 (c, h, w), and (h, w) bool, true where it is fully opaque.

    Whole numbers keep their upper 8 bits. Floats lie in 0..1 or 0..255. Raises PictureError unless it can be read and is h × w.
    """
    levels = _decode(path, shape)
    if levels.white is None:
        raise PictureError(f"{path} {levels.doubt}")
    if np.array_equal(levels.values, np.trunc(levels.values)) and levels.white > 1:
        array = np.floor(levels.values * 256 / (levels.white + 1))
    else:
        array = np.rint(levels.values * 255 / levels.white)
    array = array.astype(np.uint8)
    if array.shape[-1] == 3 and shape[0] == 1:
        array = np.asarray(Image.fromarray(array).convert("L"))[..., None]
    array = np.broadcast_to(array, (*array.shape[:2], shape[0]))
    return torch.from_numpy(array.copy()).movedim(-1, 0), torch.from_numpy(levels.opaque)


def read_mask_file(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """A mask (h, w) bool, true where known, from a picture or an array of numpy's (.npy).

    A picture of two levels, one of them 0: 0 is missing. More levels: below half of white is missing, if not more than a quarter
    of the pixels lie between black and white. What is not fully opaque is missing. An array holds false and true, 0 and 1, or as
    uint8 0 and 255. Raises MaskError, also where nothing or everything is known; PictureError if it cannot be read.
    """
    data = _contents(path, "a mask")
    if path.suffix.lower() in (".npy", ".npz") or data.startswith((np.lib.format.MAGIC_PREFIX, ARCHIVE)):
        known = _known_in_array(path, data, shape[1:])
    else:
        known = _known_in_picture(path, _decode(path, shape))
    return some_known(f"the mask {path}", torch.from_numpy(known))


def some_known(name: str, known: Tensor) -> Tensor:
    """``known`` itself; raises MaskError if nothing or everything is known."""
    if known.all():
        raise MaskError(
            f"{name} leaves nothing to fill in: every pixel is known (white or true is known, black missing)"
        )
    if not known.any():
        raise MaskError(f"{name} leaves nothing known: every pixel is missing (white or true is known, black missing)")
    return known


def save_pictures(pictures: dict[Path, Tensor]) -> None:
    """Write uint8 (c, h, w) pictures, all or none, in the format without loss that the ending of each name says."""

    def write(pixels: Tensor, kind: str, temporary: Path) -> None:
        array = pixels.movedim(0, -1).numpy()
        picture = Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array))
        picture.save(temporary, kind)

    save_together({out: partial(write, pixels, LOSSLESS[out.suffix.lower()]) for out, pixels in pictures.items()})


def _contents(path: Path, kind: str) -> bytes:
    """The whole file; raises PictureError unless it is an ordinary file of at most MOST_BYTES."""
    try:
        if not path.is_file():
            reason = "it is no ordinary file" if path.exists() else "there is no such file"
            raise PictureError(f"{path} cannot be read as {kind}: {reason}")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PictureError(f"{path} cannot be read as {kind}: {error.strerror or one_line(error)}") from None
    if len(data) > MOST_BYTES:
        raise PictureError(f"{path} cannot be read as {kind}: it has more than {MOST_BYTES // 2**20} MB")
    return data


def _decode(path: Path, shape: tuple[int, int, int]) -> Levels:
    """The picture in its own levels, upright. Its size is checked before its pixels are decompressed."""
    data = _contents(path, "a picture")
    try:
        # Of what Pillow warns, the size is checked here and the rest is no news.
        with warnings.catch_warnings(action="ignore"), _overheard() as said:
            levels = _decode_bytes(path, data, shape)
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
        raise PictureError(f"{path} is far too large; the model's images are {shape[2]}×{shape[1]}") from None
    except Exception as error:  # a broken file makes Pillow raise errors of any kind
        raise PictureError(f"{path} cannot be read as a picture: {one_line(error):.200}") from None


@contextlib.contextmanager
def _overheard():
    """A list that afterwards has the lines that a C library (libtiff) wrote to standard error meanwhile; nobody sees them."""
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


def _decode_bytes(path: Path, data: bytes, shape: tuple[int, int, int]) -> Levels:
    size = shape[:0:-1]
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        if sorted(picture.size) != sorted(size):  # it may still lie on its side
            raise PictureError("{} is {}×{}; the model's images are {}×{}".format(path, *picture.size, *size))
        try:
            picture.seek(1)
        except EOFError:
            pass
        else:
            raise PictureError(f"{path} has more than one frame or page; save the one that is meant by itself")
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        picture.verify()  # a PNG's check sums; it has to be opened again afterwards
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        if picture.format == "PNG" and picture.tile[0].args in UNSCALED_KEY and "transparency" in picture.info:
            raise PictureError(f"{path} names a transparent colour in other than 8 bits; save it with an alpha channel")
        tags = dict(picture.tag_v2) if isinstance(picture, TiffImageFile) else {}
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        if upright.size != size:
            raise PictureError("{} is {}×{}; the model's images are {}×{}".format(path, *upright.size, *size))
        return _levels(path, upright, picture.format or "", tags)


def _levels(path: Path, picture: Image.Image, kind: str, tags: dict) -> Levels:
    """What a decoded picture's mode and, of a TIFF, its tags say about its range."""
    opaque = np.ones(picture.size[::-1], dtype=bool)
    signed = 2 in tags.get(SAMPLE_FORMAT, ())
    if picture.mode[0] not in "IF":
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            opaque = np.asarray(picture)[..., 3] == 255
        values, white = np.asarray(picture.convert("RGB")).astype(np.float64), None if signed else 255
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
            raise PictureError(f"{path} holds numbers that are not finite; every pixel must have a value")
        # Values a little above 1 are 0..1 that was filtered: read as 0..255 the picture would be black.
        white = 1 if low >= 0 and high <= 1 else 255 if low >= 0 and 32 <= high <= 255 else None
        doubt = f"holds floats from {low:g} to {high:g}; they must lie in 0..1, or in 0..255 and reach 32"
    if tags.get(PHOTOMETRIC) == 0 and white is not None:  # 0 is white, which Pillow minds up to 8 bits only
        values = white - values
    return Levels(values[..., None], white, opaque, doubt)


def _known_in_picture(path: Path, levels: Levels) -> np.ndarray:
    """(h, w) bool from a mask's levels; see ``read_mask_file``."""
    values, white, opaque, doubt = levels
    colours = np.unique(values[opaque], axis=0)
    if len(colours) <= 1 or (len(colours) == 2 and not colours.any(axis=1).all()):
        return opaque & values.any(axis=-1)
    if white is None:
        raise MaskError(f"the mask {path} {doubt}, or give it two values, 0 where a pixel is missing")
    if (np.ptp(values[opaque], axis=-1) > white / 8).any():
        raise MaskError(
            f"the mask {path} has colours; it must be white where a pixel is known and black where it is missing"
        )
    grey = values.mean(axis=-1) / white
    between = (opaque & (grey > 1 / 8) & (grey < 7 / 8)).sum()
    if between > opaque.sum() / 4:
        raise MaskError(
            f"the mask {path} is neither black nor white in {between} pixels; at most a quarter may be grey"
        )
    return opaque & (grey >= 0.5)


def _known_in_array(path: Path, data: bytes, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool from an array file; its kind and shape are checked before anything of that size is allocated."""
    if data.startswith(ARCHIVE):
        raise MaskError(f"the mask {path} is an archive of arrays (.npz); save the mask by itself, with numpy.save")
    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings(action="ignore"):
            version = np.lib.format.read_magic(file)
            # Version 3 differs from 2 in how it spells the names of fields, which no mask has.
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if dtype.kind not in "biuf" or shape not in (size, (*size, 1)):
                raise MaskError(
                    f"the mask {path} is {str(dtype):.60} of shape {shape}; it must be bool of shape {size}"
                )
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False).reshape(size)
    except Refusal:
        raise
    except Exception as error:  # as with pictures
        raise MaskError(f"{path} cannot be read as an array: {one_line(error):.200}") from None
    white = 255 if array.dtype == np.uint8 and (array == 255).any() else 1
    if not np.isin(array, (0, white)).all():
        raise MaskError(f"the mask {path} holds other values than 0 (missing) and 1 (known)")
    return array == white
