"""Filling in a part of a picture of any size, by a model whose network sees only what is near.

A hole in a large picture concerns the pixels that the network sees together with it and no others,
so a rectangle around the hole is all that is computed. Time and memory grow with that rectangle; a
hole of the whole picture's extent is its worst case.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.evidence import Through
from nonequilibrium.diffusion.posterior import Inpaint, filled_between
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.files import bar
from nonequilibrium.model.images import ImageModel
from replication.data.pictures import FORMATS, PictureError, contents

MOST_PIXELS = 2**24  # of a picture: 4,096 × 4,096
ROWS = 256  # pixels of a strip's height, without what it overlaps with its neighbours
SIDEWAYS = (5, 6, 7, 8)  # values of the tag by which a picture says that it lies on its side
ORIENTATION = 274


def convolutional(params) -> bool:
    """Whether the network of these parameters runs on any size: it is the paper's, and has no dense
    path.
    """
    if not getattr(params, "conv_layers", 0) or params.dense_layers:
        return False
    return not (getattr(params, "split", 0) and params.dense_layers_above)


def sees(params) -> int:
    """How many pixels away, at most, an output of the network sees, rounded up to a whole number of
    its coarsest pixels.

    A layer sees the neighbours of its own pixel at the coarsest scale, so all layers see as many of
    these as there are layers, and the far end of the last: a coarse pixel more, less one.
    """
    return (params.conv_layers + 1) * coarsest(params)


def coarsest(params) -> int:
    """Width of a pixel at the coarsest scale: a picture's sides must be multiples of it for all
    scales to be used.
    """
    return 2 ** (params.scales - 1)


def aligned(length: int, multiple: int) -> int:
    """``length`` rounded up to a multiple."""
    return -(-length // multiple) * multiple


class Frame(NamedTuple):
    """A rectangle around a hole: rows top..bottom and columns left..right, which may reach beyond
    the picture's lower right.
    """

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, missing: Tensor, params) -> Frame:
        """The smallest that holds all that is ``missing`` (h, w) and all that the network sees
        together with it.

        Its edges are those of pixels at the coarsest scale, so that the network computes in it what
        it would in the whole picture.
        """
        margin, step = sees(params), coarsest(params)
        edges = []
        for axis in (1, 0):
            places = torch.nonzero(missing.any(axis))[:, 0]
            first, last = int(places[0]), int(places[-1]) + 1
            whole = aligned(missing.shape[1 - axis], step)
            edges += [
                max(first - margin, 0) // step * step,
                min(aligned(last + margin, step), whole),
            ]
        return cls(*edges)

    def cut(self, x: Tensor) -> Tensor:
        """This rectangle of x (..., h, w); beyond the picture it is zero."""
        part = x[..., self.top : self.bottom, self.left : self.right]
        size = (*x.shape[:-2], self.bottom - self.top, self.right - self.left)
        whole = torch.zeros(size, dtype=x.dtype)
        whole[..., : part.shape[-2], : part.shape[-1]] = part
        return whole

    def put(self, part: Tensor, x: Tensor) -> Tensor:
        """x (..., h, w) with ``part`` in place of this rectangle; what is beyond the picture is
        dropped.
        """
        x = x.clone()
        here = x[..., self.top : self.bottom, self.left : self.right]
        here.copy_(part[..., : here.shape[-2], : here.shape[-1]])
        return x


def in_strips(reverse: Reverse[Normal], params, rows: int = ROWS) -> Reverse[Normal]:
    """The same reverse, computed in strips of ``rows`` rows that overlap by what the network sees:
    less memory, equal values.

    Where derivatives are asked for, a strip keeps nothing and is computed again for them.
    """
    margin, rows = sees(params), aligned(rows, coarsest(params))

    def strip(xt: Tensor, t, first: int) -> Normal:
        top, bottom = max(first - margin, 0), min(first + rows + margin, xt.shape[-2])
        p = reverse(xt[..., top:bottom, :], t)
        return Normal(*(value[..., first - top : first - top + rows, :] for value in p))

    def whole(xt: Tensor, t) -> Normal:
        if xt.shape[-2] <= rows + 2 * margin:
            return reverse(xt, t)
        parts = []
        for first in range(0, xt.shape[-2], rows):
            if torch.is_grad_enabled() and xt.requires_grad:
                parts.append(
                    checkpoint(strip, xt, t, first, use_reentrant=False, preserve_rng_state=False)
                )
            else:
                parts.append(strip(xt, t, first))
        return Normal(*(torch.cat(values, -2) for values in zip(*parts, strict=True)))

    return whole


def fill(
    model: ImageModel,
    pixels: Tensor,
    known: Tensor,
    seeds: list[int],
    r: str,
    n_steps: int,
    solve: int,
    rows: int = ROWS,
) -> Tensor:
    """Posterior samples of a picture of any size given its known pixels: (len(seeds), c, h, w)
    uint8.

    pixels: (c, h, w) uint8. known: (h, w) bool. seeds: one a sample. r, n_steps, solve: as in
    ``inpaint.inpaint``. Shows how many steps are done and how long the rest takes. Known pixels
    come out as given.
    """
    if known.all():
        return pixels.expand(len(seeds), *pixels.shape).clone()
    params = model.params
    frame = Frame.around(~known, params)
    here, given = frame.cut(known), frame.cut(pixels)[None]
    kernel, reverse = model.thinned(n_steps)
    reverse = in_strips(reverse, params, rows)
    filled = []
    with bar(total=len(seeds) * kernel.T, desc="filling in", unit="step") as shown:
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            x0 = model.scale.dequantise(given, generator)
            factor: Callable
            if r == "through":
                factor = filled_between(reverse, x0, here, solve, model.scale.limits)
            else:
                factor = Inpaint(x0, here, annealed=r == "replacement")

            def counted(kernel, p, xt, t, factor=factor):
                shown.update(xt is not None)
                return factor(kernel, p, xt, t)

            plain = Through.skip if r == "through" else reverse
            with torch.autocast("cpu", torch.bfloat16, enabled=False):
                x = sample(kernel, plain, given.shape, generator, r=counted, dtype=torch.float32)
            filled.append(frame.put(model.scale.to_pixels(x)[0], pixels))
    return torch.where(known, pixels, torch.stack(filled))


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as its orientation says, before its pixels are read; raises
    PictureError.
    """
    data = contents(path, "a picture")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=FORMATS) as picture,
        ):
            width, height = picture.size
            if picture.getexif().get(ORIENTATION) in SIDEWAYS:
                width, height = height, width
    except Exception:  # a broken file makes Pillow raise errors of any kind
        kinds = ", ".join(FORMATS)
        raise PictureError(
            f"{path} cannot be read as a picture: it is damaged or of no kind that is read ({kinds})"
        ) from None
    if width * height > MOST_PIXELS:
        raise PictureError(
            f"{path} is {width}×{height}; a picture that is filled in may have {MOST_PIXELS:,} pixels"
        )
    return height, width
