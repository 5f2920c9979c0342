"""Pictures and masks from files, and a picture to a file, without a pixel that is misread and
unsaid.

A pixel that is not fully opaque counts as missing. Numbers whose white is not defined are refused,
but for a mask of two values.
"""

from __future__ import annotations

import io
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nonequilibrium.errors import ParameterError, Refusal, one_line
from nonequilibrium.files import save_together
from replication.data.levels import Levels, PictureError, SizeCheck, as_pixels, contents, decode

LOSSLESS = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
ARCHIVE = b"PK"  # how .npz begins


def read_picture(path: Path, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """The picture as uint8 (c, h, w), and (h, w) bool, true where it is fully opaque.

    Whole numbers keep their upper 8 bits. Floats lie in 0..1 or 0..255. Raises PictureError unless
    it can be read and is h × w.
    """
    levels = decode(path, _of_size(path, shape))
    array = as_pixels(path, levels, shape[0])
    return torch.from_numpy(array).movedim(-1, 0), torch.from_numpy(levels.opaque)


def _of_size(path: Path, shape: tuple[int, int, int]) -> SizeCheck:
    """A check that a picture has the model's size."""
    wanted = shape[:0:-1]

    def check(size: tuple[int, int], upright: bool) -> None:
        if (size if upright else sorted(size)) != (wanted if upright else sorted(wanted)):
            raise PictureError(
                "{} is {}×{}; the model's images are {}×{}".format(path, *size, *wanted)
            )

    return check


def read_mask_file(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """A mask (h, w) bool, true where known, from a picture or an array of numpy's (.npy).

    A picture of two levels, one of them 0: 0 is missing. More levels: below half of white is
    missing, if not more than a quarter of the pixels lie between black and white. What is not fully
    opaque is missing. An array holds false and true, 0 and 1, or as uint8 0 and 255. Raises
    ParameterError, also where nothing or everything is known; PictureError if it cannot be read.
    """
    data = contents(path, "a mask")
    if path.suffix.lower() in (".npy", ".npz") or data.startswith(
        (np.lib.format.MAGIC_PREFIX, ARCHIVE)
    ):
        known = _known_in_array(path, data, shape[1:])
    else:
        known = _known_in_picture(path, decode(path, _of_size(path, shape)))
    return some_known(f"the mask {path}", torch.from_numpy(known))


def some_known(name: str, known: Tensor) -> Tensor:
    """``known`` itself; raises ParameterError if nothing or everything is known."""
    if known.all():
        raise ParameterError(
            f"{name} leaves nothing to fill in: every pixel is known (white or true is known, black missing)"
        )
    if not known.any():
        raise ParameterError(
            f"{name} leaves nothing known: every pixel is missing (white or true is known, black missing)"
        )
    return known


def save_pictures(pictures: dict[Path, Tensor]) -> None:
    """Write uint8 (c, h, w) pictures, all or none, in the format without loss that the ending of
    each name says.
    """

    def write(pixels: Tensor, kind: str, temporary: Path) -> None:
        array = pixels.movedim(0, -1).numpy()
        picture = Image.fromarray(
            np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array)
        )
        picture.save(temporary, kind)

    save_together(
        {
            out: partial(write, pixels, LOSSLESS[out.suffix.lower()])
            for out, pixels in pictures.items()
        }
    )


def _known_in_picture(path: Path, levels: Levels) -> np.ndarray:
    """(h, w) bool from a mask's levels; see ``read_mask_file``."""
    values, white, opaque, doubt = levels
    colours = np.unique(values[opaque], axis=0)
    if len(colours) <= 1 or (len(colours) == 2 and not colours.any(axis=1).all()):
        return opaque & values.any(axis=-1)
    if white is None:
        raise ParameterError(
            f"the mask {path} {doubt}, or give it two values, 0 where a pixel is missing"
        )
    if (np.ptp(values[opaque], axis=-1) > white / 8).any():
        raise ParameterError(
            f"the mask {path} has colours; it must be white where a pixel is known and black where it is missing"
        )
    grey = values.mean(axis=-1) / white
    between = (opaque & (grey > 1 / 8) & (grey < 7 / 8)).sum()
    if between > opaque.sum() / 4:
        raise ParameterError(
            f"the mask {path} is neither black nor white in {between} pixels; at most a quarter may be grey"
        )
    return opaque & (grey >= 0.5)


def _known_in_array(path: Path, data: bytes, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool from an array file; its kind and shape are checked before anything of that size
    is allocated.
    """
    if data.startswith(ARCHIVE):
        raise ParameterError(
            f"the mask {path} is an archive of arrays (.npz); save the mask by itself, with numpy.save"
        )
    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings(action="ignore"):
            version = np.lib.format.read_magic(file)
            # Version 3 differs from 2 in how it spells the names of fields, which no mask has.
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = header(file)
            if dtype.kind not in "biuf" or shape not in (size, (*size, 1)):
                raise ParameterError(
                    f"the mask {path} is {str(dtype):.60} of shape {shape}; it must be bool of shape {size}"
                )
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False).reshape(size)
    except Refusal:
        raise
    except Exception as error:  # as with pictures
        raise ParameterError(f"{path} cannot be read as an array: {one_line(error):.200}") from None
    white = 255 if array.dtype == np.uint8 and (array == 255).any() else 1
    if not np.isin(array, (0, white)).all():
        raise ParameterError(f"the mask {path} holds other values than 0 (missing) and 1 (known)")
    return array == white
