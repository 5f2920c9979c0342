"""Picture files, read as they are meant or refused in one sentence; masks; pictures written.

The range of a picture comes from the bits of its file, never from its brightest pixel. Its EXIF
orientation is applied, and a pixel that is not fully opaque counts as missing.
"""

from __future__ import annotations

import io
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nonequilibrium.errors import ParameterError, one_line
from nonequilibrium.files import save_together
from replication.data.images import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM")  # by their first bytes
LOSSLESS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
LOSSLESS |= dict.fromkeys((".ppm", ".pgm", ".pnm"), "PPM")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa")  # Pillow's for 8 bits
BITS, COMPRESSION, PHOTOMETRIC, PLANES, FORMAT = 258, 259, 262, 284, 339  # TIFF tags
USUAL = {BITS: {1, 8, 16}, COMPRESSION: {1, 5, 8, 32773, 32946}, PHOTOMETRIC: {0, 1, 2, 3}}
USUAL |= {PLANES: {1}, FORMAT: {1}}  # what is usual in a TIFF
EXOTIC = "is of an unusual kind (CMYK, floats, signs, planes); save it as PNG of 8 or 16 bits"
TWELVE = "has 16 bits per channel but no value above 4,095, as 12-bit data; scale it to 16 bits"
MOST_BYTES, MOST_PIXELS = 2**26, 2**24  # of a file; of a picture, 4,096 × 4,096


class PictureError(DataError):
    """A picture that cannot be read or written, or has another size than is wanted."""


def read_picture(path: Path, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The upper 8 bits of a picture, uint8 (c, h, w), and where it is opaque, (h, w) bool.

    shape: (c, h, w), or (c,) for any size; c is 1 for grey (by ITU-R BT.601) or 3 for colour.
    """
    values, white, opaque = _decoded(path, shape[1:])
    if white is None:
        raise PictureError(f"{path} {TWELVE}")
    pixels = (values >> 8 if white > 255 else values).astype(np.uint8)
    if pixels.shape[-1] > shape[0]:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    pixels = np.broadcast_to(pixels, (*opaque.shape, shape[0])).transpose(2, 0, 1).copy()
    return torch.from_numpy(pixels), torch.from_numpy(opaque)


def _decoded(path: Path, size: tuple[int, ...]) -> tuple[np.ndarray, int | None, np.ndarray]:
    """A picture, upright, of ``size`` (h, w) or, where that is (), of any; raises PictureError.

    Returns the values (h, w, 1 or 3) as the file has them, the value of white, None where the file
    leaves it in doubt, and where the picture is opaque, (h, w) bool.
    """
    told = f"{path} cannot be read as a picture"
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            large = f"it is no ordinary file of at most {MOST_BYTES >> 20} MB"
            raise OSError(large if path.exists() else "there is no such file")
        with warnings.catch_warnings(action="ignore"):
            values, white, opaque = _levels(path.read_bytes())
    except PictureError as error:
        raise PictureError(f"{path} {error}") from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise PictureError(f"{told}: it is damaged or of no kind that is read ({kinds})") from None
    except Exception as error:  # a broken file makes Pillow raise errors of any kind
        raise PictureError(f"{told}: {one_line(error):.200}") from None
    if size not in ((), opaque.shape):
        (height, width), wanted = opaque.shape, f"{size[1]}×{size[0]}"
        raise PictureError(f"{path} is {width}×{height}; the model's images are {wanted}")
    return values, white, opaque


def _levels(data: bytes) -> tuple[np.ndarray, int | None, np.ndarray]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise PictureError(f"is {width}×{height}; a picture may have {MOST_PIXELS:,} pixels")
        if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
            raise PictureError("has more than one frame or page; save the one that is meant")
        picture.verify()  # a PNG's check sums; the file must be opened again afterwards
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        kind, tags = picture.format, dict(getattr(picture, "tag_v2", {}))
        coding = str(picture.tile[0].args) if picture.tile else ""
        upright = ImageOps.exif_transpose(picture)
    deep = upright.mode.startswith("I;16") or (upright.mode == "I" and kind in ("PNG", "PPM"))
    unusual = (set(np.ravel(tags.get(tag, ()))) - usual for tag, usual in USUAL.items())
    if not (deep or upright.mode in MODES) or any(unusual):
        raise PictureError(EXOTIC)
    keyed = kind == "PNG" and "transparency" in upright.info and upright.mode != "P"
    if keyed and coding not in ("L", "RGB"):  # Pillow compares other levels with the wrong key
        raise PictureError("names a transparent colour in other than 8 bits; save it with alpha")
    if deep:
        values, white = np.asarray(upright)[..., None], 2**16 - 1
        twelve, opaque = values.max() < 2**12, np.ones(values.shape[:2], dtype=bool)
        if tags.get(PHOTOMETRIC) == 0:  # 0 is white, which Pillow minds up to 8 bits only
            values = white - values
    else:
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
        sixteen = 16 in tags.get(BITS, ()) or ";16B" in coding or "65535" in coding
        opaque = np.asarray(upright.convert("RGBA"))[..., 3] == 255
        values, white = np.asarray(upright.convert("RGB")), 255
        twelve = sixteen and values.max() <= 2**4 - (kind != "PPM")  # where Pillow rounds up
    return values, None if twelve else white, opaque


def read_mask_file(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A mask (h, w) bool, true where known, from a picture; raises ParameterError, PictureError.

    Of two levels, one of them 0, 0 is missing. Of more levels, what is below half of white is
    missing, if at most a quarter of the pixels are grey. What is not opaque is missing.
    """
    values, white, opaque = _decoded(path, shape[1:])
    colours = np.unique(values[opaque], axis=0)
    if len(colours) <= 1 or (len(colours) == 2 and not colours.any(axis=1).all()):
        known = opaque & values.any(axis=-1)
    elif white is None:
        raise ParameterError(f"the mask {path} {TWELVE}, or give it two values, 0 for missing")
    elif (np.ptp(values[opaque], axis=-1) > white / 8).any():
        raise ParameterError(f"the mask {path} has colours; white is known, black missing")
    else:
        grey = values.mean(axis=-1) / white
        between, known = (opaque & (grey > 1 / 8) & (grey < 7 / 8)).sum(), opaque & (grey >= 0.5)
        if between > opaque.sum() / 4:
            told = f"the mask {path} is neither black nor white in {between}"
            raise ParameterError(f"{told}; at most a quarter may be grey")
    return some_known(f"the mask {path}", torch.from_numpy(known))


def some_known(name: str, known: Tensor) -> Tensor:
    """``known`` itself; raises ParameterError if nothing or everything is known."""
    if not known.any() or known.all():
        which = "to fill in: every pixel is known" if known.any() else "known: every one is missing"
        raise ParameterError(f"{name} leaves nothing {which} (white is known, black missing)")
    return known


def save_pictures(pictures: dict[Path, Tensor]) -> None:
    """Write uint8 (c, h, w) pictures, all or none, in the lossless format each ending names."""

    def write(out: Path, temporary: Path) -> None:
        array = pictures[out].movedim(0, -1).squeeze(-1).contiguous().numpy()
        Image.fromarray(array).save(temporary, LOSSLESS[out.suffix.lower()])

    save_together({out: partial(write, out) for out in pictures})


def rows(images: Tensor, columns: int, side: int = 0, white: int = 255) -> Tensor:
    """Images (n, c, h, w) uint8 in rows of ``columns`` with white gaps, each enlarged to about
    ``side`` pixels where it is smaller: (c, H, W).
    """
    times, columns = max(1, side // images.shape[-1]), min(columns, len(images))
    images = images.repeat_interleave(times, -1).repeat_interleave(times, -2)
    gaps = (0, 2 * times, 0, 2 * times, 0, 0, 0, -len(images) % columns)
    cells = F.pad(images, gaps, value=white).unflatten(0, (-1, columns))
    sheet = cells.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return sheet[:, : -2 * times, : -2 * times]
