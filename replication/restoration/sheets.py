"""Pictures of several images that one can see: side by side, enlarged, each with its name above it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 4  # pixels of the sheet between images
LETTERS = 11  # pixels high


def rows(images: Tensor, columns: int) -> Tensor:
    """Images (n, c, h, w) uint8 in rows of ``columns``, edge to edge; places that are left over are
    black: (c, H, W).
    """
    n, c, h, w = images.shape
    down = -(-n // columns)
    places = torch.zeros(down * columns, c, h, w, dtype=torch.uint8)
    places[:n] = images
    return (
        places.reshape(down, columns, c, h, w)
        .permute(2, 0, 3, 1, 4)
        .reshape(c, down * h, columns * w)
    )


def enlarged(image: Tensor, times: int) -> Tensor:
    """Every pixel as a square of ``times`` × ``times``: (c, h, w) to (c, times h, times w)."""
    return image.repeat_interleave(times, -1).repeat_interleave(times, -2)


def labelled(images: Mapping[str, Tensor], side: int = 192, columns: int = 6) -> Tensor:
    """One sheet (c, H, W) uint8 of named images (c, h, w) uint8 of one size, enlarged to about
    ``side`` pixels.
    """
    shown = {
        name: enlarged(image, max(1, side // image.shape[-1])) for name, image in images.items()
    }
    c, h, w = next(iter(shown.values())).shape
    columns = min(columns, len(shown))
    above = LETTERS + 2 * GAP
    size = (columns * (w + GAP) + GAP, -(-len(shown) // columns) * (h + above) + GAP)
    canvas = Image.new("L" if c == 1 else "RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(LETTERS)
    for number, (name, image) in enumerate(shown.items()):
        x, y = GAP + (number % columns) * (w + GAP), (number // columns) * (h + above)
        pen.text((x, y + GAP), name, fill="black", font=font)
        array = image.movedim(0, -1).numpy()
        canvas.paste(Image.fromarray(array[..., 0] if c == 1 else array), (x, y + above))
    array = np.asarray(canvas)
    return torch.from_numpy(array.reshape(*array.shape[:2], c).copy()).movedim(-1, 0)


def spread(samples: Tensor) -> Tensor:
    """The standard deviation of samples (n, c, h, w) uint8 at each value, stretched so that the
    largest is white: (c, h, w) uint8.
    """
    deviation = samples.float().std(0, correction=0)
    return (255 * deviation / deviation.max().clamp(min=1)).round().to(torch.uint8)
