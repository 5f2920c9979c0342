"""Fill in a part of one's own picture by the posterior of a trained image model (section 2.5).

    nonequilibrium inpaint picture.png --mask mask.png --out filled.png

The mask is a picture of the same size (white is known, black is to be filled in), a boolean array (.npy), ``centre`` or
``left``. What is known comes out exactly as given. The result has the picture with its hole, then the samples: where they differ,
the model is not sure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nonequilibrium.diffusion.posterior import Inpaint, MaskError
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.errors import Refusal
from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.experiment.registry import MODELS
from nonequilibrium.experiment.weights import load_weights
from nonequilibrium.fields import ParameterError, check_name
from nonequilibrium.files import ROOT
from nonequilibrium.training.devices import keep_freed_memory

IMAGES = [name for name, kind in MODELS.items() if kind is ImageModel]
GREY = 128  # drawn where a pixel is missing


class PictureError(Refusal, ValueError):
    """A picture that cannot be read or has another size than the model's."""


def read_picture(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """The picture as uint8 (c, h, w); raises PictureError unless it is readable and h × w."""
    channels, height, width = shape
    try:
        with Image.open(path) as picture:
            array = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    except (FileNotFoundError, IsADirectoryError, UnidentifiedImageError, OSError) as error:
        raise PictureError(f"{path} cannot be read as a picture: {error}") from None
    if array.shape[:2] != (height, width):
        raise PictureError(f"{path} is {array.shape[1]}×{array.shape[0]}; the model's images are {width}×{height}")
    return torch.from_numpy(np.atleast_3d(array).copy()).movedim(-1, 0)


def centre(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: a square of half the side is missing in the middle."""
    known = torch.ones(height, width, dtype=torch.bool)
    known[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    return known


def left(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: the right half is missing."""
    return (torch.arange(width) < width // 2).expand(height, width).clone()


MASKS = {"centre": centre, "left": left}


def read_mask(mask: str, shape: tuple[int, int, int]) -> Tensor:
    """A mask by name, or from a picture (at least half white is known) or a boolean .npy array: (h, w) bool, true where known."""
    height, width = shape[1:]
    if mask in MASKS:
        return MASKS[mask](height, width)
    if Path(mask).suffix != ".npy":
        return read_picture(Path(mask), (1, height, width))[0] >= 128
    try:
        array = np.load(mask, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MaskError(f"{mask} cannot be read as an array: {error}") from None
    if array.dtype != bool or array.shape != (height, width):
        raise MaskError(f"{mask} is {array.dtype} of shape {array.shape}; it must be bool of shape ({height}, {width})")
    return torch.from_numpy(array)


def inpaint(
    model: ImageModel,
    pixels: Tensor,
    known: Tensor,
    seeds: list[int],
    annealed: bool = False,
    n_steps: int | None = None,
    block: int = 100,
) -> Tensor:
    """Posterior samples given the known pixels: (len(seeds), n, c, h, w) uint8.

    pixels: (n, c, h, w) uint8; what they hold where nothing is known does not matter. known: bool, broadcastable to it.
    seeds: one a sample of each image; image i's k-th sample depends on (seeds[k], i) alone, not on the block.
    n_steps: length of the chain, all of the model's steps if None (see ``ImageModel.thinned``).
    """
    kernel, reverse = model.thinned(n_steps or model.params.n_steps)
    known = Inpaint(pixels, known).known

    def given(part: Tensor, generators: list[torch.Generator]) -> Inpaint:
        u = torch.stack([torch.rand(pixels.shape[1:], generator=g) for g in generators])
        return Inpaint((pixels[part] + u - model.scale.mean) / model.scale.sigma, known[part], annealed)

    drawn = [sample_each(kernel, reverse, len(pixels), pixels.shape[1:], seed, given, block) for seed in seeds]
    return torch.stack([torch.where(known, pixels, model.scale.to_pixels(x)) for x in drawn])


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium inpaint``."""
    parser.add_argument("picture", type=Path, help="any picture file of the model's size (CIFAR-10: 32×32)")
    parser.add_argument("--mask", default="centre", help="a picture, a .npy of bool, or " + " or ".join(MASKS))
    parser.add_argument("--model", default="cifar10_cpu", help=", ".join(IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--annealed", action="store_true", help="let r fade towards t = T")
    parser.add_argument("--out", type=Path, default=Path("inpainted.png"), help="a PNG: the hole, then the samples")


def run(options: argparse.Namespace) -> None:
    """Fill in a picture and write the sheet: the picture with its hole, then the samples."""
    check_name("model", options.model, IMAGES)
    if options.samples < 1:
        raise ParameterError(f"--samples is {options.samples}; it must be at least 1")
    model = load_weights(options.weights or ROOT / "models" / f"{options.model}.safetensors", options.model)
    shape = model.network.shape
    picture, known = read_picture(options.picture, shape), read_mask(options.mask, shape)
    keep_freed_memory()
    seeds = list(range(options.seed, options.seed + options.samples))
    filled = inpaint(model, picture[None], known, seeds, options.annealed)[:, 0]
    hole = torch.where(known, picture, torch.tensor(GREY, dtype=torch.uint8))
    sheet = torch.cat([hole, *filled], -1).movedim(0, -1).numpy()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.squeeze()).save(options.out)
    print(f"{options.out}: the picture with {int((~known).sum())} pixels missing, then {options.samples} samples")
