"""Filling in a part of a picture of any size, by a model whose network sees only what is near.

A hole in a large picture concerns the pixels that the network sees together with it and no others,
so a rectangle around the hole is all that is computed. Time and memory grow with that rectangle.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from nonequilibrium.diffusion.chain import Factor, Normal, Reverse
from nonequilibrium.diffusion.evidence import Through
from nonequilibrium.diffusion.posterior import Inpaint, filled_between
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.files import bar
from nonequilibrium.model.images import ImageModel
from replication.data.pictures import FORMATS, PictureError

MOST_PIXELS = 2**24  # of a picture: 4,096 × 4,096
ROWS = 256  # height of a strip, without its overlap with its neighbours
ORIENTATION, SIDEWAYS = 274, (5, 6, 7, 8)  # the tag of a picture, its values for lying on a side


def entering(r: str, reverse, x0: Tensor, known: Tensor, solve: int, limits) -> Factor:
    """The factor by which known pixels of x0 enter the chain, r a key of ``inpaint.FACTORS``."""
    if r == "through":
        return filled_between(reverse, x0, known, solve, limits)
    return Inpaint(x0, known, annealed=r == "replacement")


def convolutional(params) -> bool:
    """Whether a network runs on any size: that of the paper does, without a dense path."""
    if not getattr(params, "conv_layers", 0) or params.dense_layers:
        return False
    return not (getattr(params, "split", 0) and params.dense_layers_above)


def coarsest(params) -> int:
    """Width of a pixel at the coarsest scale, of which a picture's sides must be multiples."""
    return 2 ** (params.scales - 1)


def sees(params) -> int:
    """How many pixels away, at most, an output of the network sees, in whole coarse pixels.

    Each layer sees the neighbours of its own coarse pixel, and the last all of its far end.
    """
    return (params.conv_layers + 1) * coarsest(params)


def aligned(length: int, multiple: int) -> int:
    """``length`` rounded up to a multiple."""
    return -(-length // multiple) * multiple


def around(missing: Tensor, params) -> tuple[slice, slice]:
    """Rows and columns of all that is ``missing`` (h, w) and that the network sees with it.

    Their ends are those of coarse pixels, so they may lie beyond the picture.
    """
    margin, step, ends = sees(params), coarsest(params), []
    for axis in (1, 0):
        places = torch.nonzero(missing.any(axis))[:, 0]
        last = min(int(places[-1]) + 1 + margin, missing.shape[1 - axis])
        ends.append(slice(max(int(places[0]) - margin, 0) // step * step, aligned(last, step)))
    return ends[0], ends[1]


def in_strips(reverse: Reverse[Normal], params, rows: int = ROWS) -> Reverse[Normal]:
    """The same reverse in strips of ``rows`` rows that overlap by what the network sees.

    Values are equal, memory is less: for derivatives a strip is computed again.
    """
    margin, rows = sees(params), aligned(rows, coarsest(params))

    def strip(xt: Tensor, t, first: int) -> Normal:
        top, bottom = max(first - margin, 0), min(first + rows + margin, xt.shape[-2])
        p = reverse(xt[..., top:bottom, :], t)
        return Normal(*(value[..., first - top : first - top + rows, :] for value in p))

    def whole(xt: Tensor, t) -> Normal:
        if xt.shape[-2] <= rows + 2 * margin:
            return reverse(xt, t)
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        again = torch.is_grad_enabled() and xt.requires_grad
        parts = [
            checkpoint(strip, xt, t, first, **options) if again else strip(xt, t, first)
            for first in range(0, xt.shape[-2], rows)
        ]
        return Normal(*(torch.cat(values, -2) for values in zip(*parts, strict=True)))

    return whole


def fill(
    model: ImageModel, pixels: Tensor, known: Tensor, seeds: list[int], r: str, n_steps: int, solve
) -> Tensor:
    """Posterior samples of a picture given its known pixels: (len(seeds), c, h, w) uint8.

    pixels: (c, h, w) uint8. known: (h, w) bool. The rest as in ``inpaint.inpaint``.
    """
    if known.all():
        return pixels.expand(len(seeds), *pixels.shape).clone()
    (height, width), step = known.shape, coarsest(model.params)
    beyond = (0, -width % step, 0, -height % step)  # to whole coarse pixels, of which none is known
    place, canvas = (..., *around(~known, model.params)), F.pad(pixels, beyond)
    here, given, filled = F.pad(known, beyond)[place], canvas[place][None], []
    kernel, reverse = model.thinned(n_steps)
    reverse = in_strips(reverse, model.params)
    plain = Through.skip if r == "through" else reverse
    with bar(total=len(seeds) * kernel.T, desc="filling in", unit="step") as shown:
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            x0 = model.scale.dequantise(given, generator)
            factor = entering(r, reverse, x0, here, solve, model.scale.limits)

            def counted(kernel, p, xt, t, factor=factor):
                shown.update(xt is not None)
                return factor(kernel, p, xt, t)

            options = {"r": counted, "dtype": torch.float32}
            with torch.autocast("cpu", torch.bfloat16, enabled=False):
                x = sample(kernel, plain, given.shape, generator, **options)
            canvas[place] = model.scale.to_pixels(x)[0]
            filled.append(canvas[:, :height, :width].clone())
    return torch.where(known, pixels, torch.stack(filled))


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of a picture file as its orientation says; raises PictureError."""
    if not path.is_file():
        raise PictureError(f"{path} cannot be read as a picture: there is no such file")
    data = io.BytesIO(path.read_bytes())
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(data, formats=FORMATS) as picture:
            sideways = picture.getexif().get(ORIENTATION) in SIDEWAYS
            width, height = picture.size[::-1] if sideways else picture.size
    except Exception:  # a broken file makes Pillow raise errors of any kind
        reason = f"it is damaged or of no kind that is read ({', '.join(FORMATS)})"
        raise PictureError(f"{path} cannot be read as a picture: {reason}") from None
    if width * height > MOST_PIXELS:
        wanted = f"a picture that is filled in may have {MOST_PIXELS:,} pixels"
        raise PictureError(f"{path} is {width}×{height}; {wanted}")
    return height, width
