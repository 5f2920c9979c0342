"""Filling in a part of a picture of any size, by a model whose network sees only what is near.

Only a rectangle is computed, of the hole and the pixels that the network sees together with it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Factor
from nonequilibrium.diffusion.evidence import Through
from nonequilibrium.diffusion.posterior import Inpaint, filled_between
from nonequilibrium.diffusion.sampling import reverse_chain
from nonequilibrium.files import bar
from nonequilibrium.model.images import ImageModel


def entering(r: str, reverse, x0: Tensor, known: Tensor, solve: int, limits) -> Factor:
    """The factor by which known pixels of x0 enter the chain, r a key of ``inpaint.FACTORS``."""
    if r == "through":
        return filled_between(reverse, x0, known, solve, limits)
    return Inpaint(x0, known, annealed=r == "replacement")


def convolutional(params) -> bool:
    """Whether a network runs on any size: that of the paper does, without a dense path."""
    above = getattr(params, "split", 0) and params.dense_layers_above
    return bool(getattr(params, "conv_layers", 0)) and not (params.dense_layers or above)


def coarsest(params) -> int:
    """Width of a pixel at the coarsest scale, of which a picture's sides must be multiples."""
    return 2 ** (params.scales - 1)


def sees(params) -> int:
    """How many pixels away, at most, an output of the network sees, in whole coarse pixels."""
    return (params.conv_layers + 1) * coarsest(params)


def around(missing: Tensor, params) -> tuple[slice, slice]:
    """Rows and columns of all that is ``missing`` (h, w) and that the network sees with it.

    They are whole coarse pixels, and so may end beyond the picture.
    """
    margin, step, ends = sees(params), coarsest(params), []
    for axis in (1, 0):
        places = torch.nonzero(missing.any(axis))[:, 0]
        last = min(int(places[-1]) + 1 + margin, missing.shape[1 - axis])
        ends.append(slice(max(int(places[0]) - margin, 0) // step * step, -(-last // step) * step))
    return ends[0], ends[1]


@torch.no_grad()
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
    plain = Through.skip if r == "through" else reverse
    shown = bar(total=len(seeds) * (kernel.T + 1), desc="filling in", unit="step")
    with shown, torch.autocast("cpu", torch.bfloat16, enabled=False):
        for generator in (torch.Generator().manual_seed(seed) for seed in seeds):
            x0 = model.scale.dequantise(given, generator)
            factor = entering(r, reverse, x0, here, solve, model.scale.limits)
            chain = reverse_chain(kernel, plain, given.shape, generator, factor, torch.float32)
            for t, x, _, _ in chain:
                shown.update()
                if t == 0:
                    canvas[place] = model.scale.to_pixels(x)[0]
            filled.append(canvas[:, :height, :width].clone())
    return torch.where(known, pixels, torch.stack(filled))
