"""Pictures of any size from files, to train on: one's own and those that were fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from replication.data.images import DataError

# Endings of the names that are taken for pictures in a folder; what a picture is, its first bytes
# say.
KINDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".pgm", ".ppm", ".pnm")
MOST_PIXELS = 2**24  # of a picture: 4,096 × 4,096


def read_any(path: Path, channels: int) -> Tensor:
    """A picture of any size as uint8 (channels, h, w), 1 for grey or 3 for colour; raises DataError
    with the reason.

    Pixels that are not opaque, and floats, are refused: what is trained on must be known
    everywhere, to its last level.
    """
    # Here, because a machine that trains on other images need not have Pillow.
    from replication.data.levels import PictureError, as_pixels, decode

    def check(size: tuple[int, int], upright: bool) -> None:
        if size[0] * size[1] > MOST_PIXELS:
            raise DataError(
                f"{path} is {size[0]}×{size[1]}; a picture may have {MOST_PIXELS:,} pixels, so scale it down"
            )

    try:
        levels = decode(path, check)
        if levels.white == 1 or not np.array_equal(levels.values, np.trunc(levels.values)):
            raise DataError(
                f"{path} holds floats, whose white is not defined; save it with 8 or 16 bits a channel"
            )
        if not levels.opaque.all():
            raise DataError(f"{path} has pixels that are not opaque; save it without transparency")
        pixels = as_pixels(path, levels, channels)
    except PictureError as error:
        raise DataError(str(error)) from None
    return torch.from_numpy(pixels).movedim(-1, 0).contiguous()
