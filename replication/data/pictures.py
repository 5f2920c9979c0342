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
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nonequilibrium.errors import ParameterError, one_line
from nonequilibrium.files import save_together
from replication.data.images import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM")  # told by their first bytes
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
    values, white, opaque = _decode(path, shape[1:])
    if white is None:
        raise PictureError(f"{path} {TWELVE}")
    pixels = (values >> 8 if white > 255 else values).astype(np.uint8)
    if pixels.shape[-1] > shape[0]:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    pixels = np.broadcast_to(pixels, (*opaque.shape, shape[0])).transpose(2, 0, 1).copy()
    return torch.from_numpy(pixels), torch.from_numpy(opaque)


def read_opaque(path: Path, channels: int) -> Tensor:
    """A picture of any size to train on, uint8 (c, h, w), of which every pixel is opaque."""
    pixels, opaque = read_picture(path, (channels,))
    if not opaque.all():
        raise PictureError(f"{path} has pixels that are not opaque; save it without transparency")
    return pixels


def contents(path: Path, kind: str) -> bytes:
    """The whole file; raises PictureError unless it is an ordinary file of at most MOST_BYTES."""
    try:
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            return path.read_bytes()
        reason = f"it is no ordinary file of at most {MOST_BYTES >> 20} MB"
        reason = reason if path.exists() else "there is no such file"
    except OSError as error:
        reason = one_line(error)
    raise PictureError(f"{path} cannot be read as {kind}: {reason}")


def _decode(path: Path, size: tuple[int, ...]) -> tuple[np.ndarray, int | None, np.ndarray]:
    """A picture, upright, of ``size`` (h, w) or, where that is (), of any; raises PictureError.

    Returns the values (h, w, 1 or 3) as the file has them, the value of white, None where the file
    leaves it in doubt, and where the picture is opaque, (h, w) bool.
    """
    data = contents(path, "a picture")
    try:
        with warnings.catch_warnings(action="ignore"):
            found = _levels(data)
    except PictureError as error:
        raise PictureError(f"{path} {error}") from None
    except Exception as error:  # a broken file makes Pillow raise errors of any kind
        reason = f"{one_line(error):.200}"
        if isinstance(error, UnidentifiedImageError):
            reason = f"it is damaged or of no kind that is read ({', '.join(FORMATS)})"
        raise PictureError(f"{path} cannot be read as a picture: {reason}") from None
    height, width = found[2].shape
    if size and (height, width) != size:
        wanted = f"the model's images are {size[1]}×{size[0]}"
        raise PictureError(f"{path} is {width}×{height}; {wanted}")
    return found


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
    keyed = kind == "PNG" and "transparency" in upright.info and upright.mode != "P"
    if keyed and coding not in ("L", "RGB"):  # Pillow compares other levels with the wrong key
        raise PictureError("names a transparent colour in other than 8 bits; save it with alpha")
    unusual = (set(np.ravel(tags.get(tag, ()))) - usual for tag, usual in USUAL.items())
    if not (deep or upright.mode in MODES) or any(unusual):
        raise PictureError(EXOTIC)
    opaque = np.ones(upright.size[::-1], dtype=bool)
    if deep:
        values, white = np.asarray(upright)[..., None], 2**16 - 1
        twelve = values.max() < 2**12
        if tags.get(PHOTOMETRIC) == 0:  # 0 is white, which Pillow minds up to 8 bits only
            values = white - values
    else:
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            opaque = np.asarray(upright)[..., 3] == 255
        values, white = np.asarray(upright.convert("RGB")), 255
        sixteen = 16 in tags.get(BITS, ()) or ";16B" in coding or "65535" in coding
        twelve = sixteen and values.max() <= 2**4 - (kind != "PPM")  # where Pillow rounds up
    return values, None if twelve else white, opaque


def read_mask_file(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A mask (h, w) bool, true where known, from a picture or an array of numpy's (.npy).

    A picture of two levels, one of them 0: 0 is missing. More levels: below half of white is
    missing, if at most a quarter of the pixels are grey. What is not opaque is missing. An array
    holds false and true, 0 and 1, or as uint8 0 and 255. Raises ParameterError or PictureError.
    """
    start = contents(path, "a mask")[:6]
    if path.suffix.lower() in (".npy", ".npz") or start.startswith((b"\x93NUMPY", b"PK")):
        known = _known_in_array(path, shape[1:])
    else:
        known = _known_in_picture(path, *_decode(path, shape[1:]))
    return some_known(f"the mask {path}", torch.from_numpy(known))


def some_known(name: str, known: Tensor) -> Tensor:
    """``known`` itself; raises ParameterError if nothing or everything is known."""
    legend = "(white or true is known, black missing)"
    if known.all():
        raise ParameterError(f"{name} leaves nothing to fill in: every pixel is known {legend}")
    if not known.any():
        raise ParameterError(f"{name} leaves nothing known: every pixel is missing {legend}")
    return known


def _known_in_picture(path: Path, values: np.ndarray, white: int | None, opaque) -> np.ndarray:
    colours = np.unique(values[opaque], axis=0)
    if len(colours) <= 1 or (len(colours) == 2 and not colours.any(axis=1).all()):
        return opaque & values.any(axis=-1)
    if white is None:
        raise ParameterError(f"the mask {path} {TWELVE}, or give it two values, 0 for missing")
    if (np.ptp(values[opaque], axis=-1) > white / 8).any():
        raise ParameterError(f"the mask {path} has colours; white is known, black missing")
    grey = values.mean(axis=-1) / white
    between = (opaque & (grey > 1 / 8) & (grey < 7 / 8)).sum()
    if between > opaque.sum() / 4:
        most = "at most a quarter may be grey"
        raise ParameterError(f"the mask {path} is neither black nor white in {between}; {most}")
    return opaque & (grey >= 0.5)


def _known_in_array(path: Path, size: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")  # no more is allocated than the file has
    except Exception as error:  # as with pictures
        raise ParameterError(f"{path} cannot be read as an array: {one_line(error):.200}") from None
    if not isinstance(array, np.ndarray):
        raise ParameterError(f"the mask {path} is an archive of arrays; save it with numpy.save")
    if array.dtype.kind not in "biuf" or array.shape not in (size, (*size, 1)):
        kind = f"{str(array.dtype):.60} of shape {array.shape}"
        raise ParameterError(f"the mask {path} is {kind}; it must be bool of shape {size}")
    white = 255 if array.dtype == np.uint8 and (array == 255).any() else 1
    if not np.isin(array, (0, white)).all():
        raise ParameterError(f"the mask {path} holds other values than 0 (missing) and 1 (known)")
    return np.asarray(array == white).reshape(size)


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
    times = max(1, side // images.shape[-1])
    images = images.repeat_interleave(times, -1).repeat_interleave(times, -2)
    n, c, h, w = images.shape
    columns, gap = min(columns, n), 2 * times
    down = -(-n // columns)
    size = down * (h + gap) - gap, columns * (w + gap) - gap
    paper = torch.full((c, *size), white, dtype=torch.uint8)
    for number, image in enumerate(images):
        top, left = (h + gap) * (number // columns), (w + gap) * (number % columns)
        paper[:, top : top + h, left : left + w] = image
    return paper
