"""Picture files, read as they are meant or refused in one sentence; masks; pictures written.

A picture has 8 bits per channel. Its EXIF orientation is applied, and a pixel that is not fully
opaque counts as missing.
"""

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
from replication.data.sources import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM")  # by their first bytes
LOSSLESS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
LOSSLESS |= dict.fromkeys((".ppm", ".pgm", ".pnm"), "PPM")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa")  # Pillow's for 8 bits
# A TIFF's bits, compression, kind of colours, planes and kind of numbers, where they are usual.
TIFF = {258: {1, 8}, 259: {1, 5, 8, 32773, 32946}, 262: {0, 1, 2, 3}, 284: {1}, 339: {1}}
EXOTIC = "is of an unusual kind (16 bits, CMYK, floats, a transparent colour among few levels); "
EXOTIC += "save it as PNG of 8 bits per channel"
MOST_BYTES, MOST_PIXELS = 2**26, 2**24  # of a file; of a picture, 4,096 × 4,096


class PictureError(DataError):
    """A picture that cannot be read or written, or has another size than is wanted."""


def read_picture(path: Path, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A picture, uint8 (c, h, w), and where it is opaque, (h, w) bool; raises PictureError.

    shape: (c, h, w), or (c,) for any size; c is 1 for grey (by ITU-R BT.601) or 3 for colour.
    """
    picture = _decoded(path, shape[1:])
    pixels = np.asarray(picture.convert("RGB" if shape[0] > 1 else "L"))
    opaque = np.asarray(picture)[..., 3] == 255
    return torch.from_numpy(np.atleast_3d(pixels).transpose(2, 0, 1).copy()), torch.tensor(opaque)


def read_opaque(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The pixels of ``read_picture``; raises PictureError unless all are opaque."""
    pixels, opaque = read_picture(path, shape)
    if not opaque.all():
        raise PictureError(f"{path} has pixels that are not opaque; save it without transparency")
    return pixels


def _decoded(path: Path, size: tuple[int, ...]) -> Image.Image:
    """An upright RGBA picture of ``size`` (h, w), or of any size where ``size`` is ()."""
    message = f"{path} cannot be read as a picture"
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            large = f"it is no ordinary file of at most {MOST_BYTES >> 20} MB"
            raise OSError(large if path.exists() else "there is no such file")
        with warnings.catch_warnings(action="ignore"):
            picture = _upright(path.read_bytes())
    except PictureError as error:
        raise PictureError(f"{path} {error}") from None
    except UnidentifiedImageError:
        kinds = f"of no kind that is read ({', '.join(FORMATS)})"
        raise PictureError(f"{message}: it is damaged or {kinds}") from None
    except Exception as error:  # a broken file makes Pillow raise errors of any kind
        raise PictureError(f"{message}: {one_line(error):.200}") from None
    if size not in ((), (picture.height, picture.width)):
        wanted = f"the model's images are {size[1]}×{size[0]}"
        raise PictureError(f"{path} is {picture.width}×{picture.height}; {wanted}")
    return picture


def _upright(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise PictureError(f"is {width}×{height}; a picture may have {MOST_PIXELS:,} pixels")
        if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
            raise PictureError("has more than one frame or page; save the one that is meant")
        picture.verify()  # a PNG's check sums; the file must be opened again afterwards
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        tags, kind = dict(getattr(picture, "tag_v2", {})), picture.format
        coding = str(picture.tile[0].args) if picture.tile else ""
        # Before decoding: Pillow 11 and 12 say of a YCbCr TIFF that it is truncated.
        if any(set(np.ravel(tags.get(tag, ()))) - usual for tag, usual in TIFF.items()):
            raise PictureError(EXOTIC)
        upright = ImageOps.exif_transpose(picture)
    # Pillow keeps half of the 16 bits of a colour, and compares levels of fewer than 8 bits with
    # the wrong transparent colour.
    deep = upright.mode not in MODES or ";16B" in coding or "65535" in coding
    keyed = kind == "PNG" and "transparency" in upright.info and upright.mode != "P"
    if deep or (keyed and coding not in ("L", "RGB")):
        raise PictureError(EXOTIC)
    return upright.convert("RGBA")


def read_mask_file(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A mask (h, w) bool, true where known, from a picture; raises ParameterError, PictureError.

    Of two levels, one of them 0, 0 is missing. Of more levels, those below half of white are
    missing, if at most a quarter of the pixels are grey. What is not opaque is missing.
    """
    rgba = np.asarray(_decoded(path, shape[1:]))
    values, opaque = rgba[..., :3], rgba[..., 3] == 255
    colours = np.unique(values[opaque], axis=0)
    if len(colours) <= 1 or (len(colours) == 2 and not colours.any(axis=1).all()):
        known = opaque & values.any(axis=-1)
    elif (np.ptp(values[opaque], axis=-1) > 255 / 8).any():
        raise ParameterError(f"the mask {path} has colours; white is known, black missing")
    else:
        grey = values.mean(axis=-1) / 255
        between, known = (opaque & (grey > 1 / 8) & (grey < 7 / 8)).sum(), opaque & (grey >= 0.5)
        if between > opaque.sum() / 4:
            message = f"the mask {path} is neither black nor white in {between}"
            raise ParameterError(f"{message}; at most a quarter may be grey")
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
    """One picture (c, H, W) of images (n, c, h, w) uint8, enlarged to about ``side`` if smaller."""
    times, columns = max(1, side // images.shape[-1]), min(columns, len(images))
    images = images.repeat_interleave(times, -1).repeat_interleave(times, -2)
    gaps = (0, 2 * times, 0, 2 * times, 0, 0, 0, -len(images) % columns)
    cells = F.pad(images, gaps, value=white).unflatten(0, (-1, columns))
    sheet = cells.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return sheet[:, : -2 * times, : -2 * times]
