"""Fill in a part of one's own picture by the posterior of a trained image model (section 2.5).

    nonequilibrium inpaint picture.png --mask mask.png --out filled.png

The mask is a picture of the same size (white is known, black or transparent is to be filled in), an
array (.npy), ``centre`` or ``left``. Without one, what is transparent in the picture is filled in,
or else its centre. What is known comes out exactly as given. The result shows the picture with its
hole, the samples, their mean and their spread: where they differ, the model is not sure. Each
sample is a file of its own beside it, of the picture's size. A model without a dense path, such as
bark's, takes pictures of any size.
"""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

import torch
from torch import Tensor

from nonequilibrium.diffusion.evidence import Through
from nonequilibrium.diffusion.posterior import Between, Inpaint, filled_between
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.errors import ParameterError, one_line
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from nonequilibrium.training.devices import enough_memory, keep_freed_memory
from replication.data.pictures import (
    LOSSLESS,
    PictureError,
    read_mask_file,
    read_picture,
    rows,
    save_pictures,
    some_known,
)
from replication.files import ROOT
from replication.restoration.inpaint_any import convolutional, fill, size_of
from replication.settings.fields import check_name
from replication.settings.registry import EXPERIMENTS

IMAGES = [name for name, its in EXPERIMENTS.items() if its.images]
GREY = 128  # drawn where a pixel is missing
MOST_SAMPLES = 1000
LAST_SEED = 2**32 - 1
MOST_STEPS = 10_000


def centre(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: a square of half the side is missing in the middle."""
    known = torch.ones(height, width, dtype=torch.bool)
    known[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    return known


def left(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: the right half is missing."""
    return (torch.arange(width) < width // 2).expand(height, width).clone()


MASKS = {"centre": centre, "left": left}
# How the known pixels enter the reverse chain.
FACTORS = {
    "through": "r_t looks through the model, so that what is filled in goes with what is known",
    "constant": "the paper's: r is the same at all t",
    "replacement": "the known pixels follow their own forward chain, and nothing is conditioned on",
}
SAMPLES, THIN = 4, 100  # unless the command says otherwise: samples, steps of the chain
SOLVE = 5  # steps of conjugate gradients; on training images set aside 3 left errors a few per cent larger in a quarter less time


def read_mask(mask: str, shape: tuple[int, int, int]) -> Tensor:
    """A mask by name, or from a file: (h, w) bool, true where known. Raises ParameterError,
    ParameterError or PictureError.
    """
    name = mask.strip().lower().replace("center", "centre")
    if name in MASKS:
        return MASKS[name](*shape[1:])
    path = Path(mask)
    if path.name == mask and not path.suffix and not os.path.lexists(path):
        check_name("mask", name, [*MASKS, "a file"])
    return read_mask_file(path, shape)


def inpaint(
    model: ImageModel,
    pixels: Tensor,
    known: Tensor,
    seeds: list[int],
    r: str = "through",
    n_steps: int | None = None,
    solve: int = SOLVE,
    block: int = 100,
) -> Tensor:
    """Posterior samples given the known pixels: (len(seeds), n, c, h, w) uint8.

    pixels: (n, c, h, w) uint8; what they hold where nothing is known does not matter. known: bool,
    broadcastable to it.
    seeds: one a sample of each image; image i's k-th sample depends on (seeds[k], i) alone, not on
    the block.
    r: how the known pixels enter, a key of ``FACTORS``. solve: steps of conjugate gradients of
    ``evidence.Through``.
    n_steps: length of the chain, all of the model's steps if None (see ``ImageModel.thinned``).
    """
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != model.network.shape:
        raise PictureError(
            f"the pixels are {pixels.dtype} of shape {tuple(pixels.shape)}; they must be uint8 of (n, {str(model.network.shape)[1:]}"
        )
    check_name("r", r, FACTORS)
    if not seeds:
        raise ParameterError("seeds is empty; there must be one a sample")
    kernel, reverse = model.thinned(model.params.n_steps if n_steps is None else n_steps)
    known = Inpaint(pixels, known).known
    n, shape = len(pixels), pixels.shape[1:]

    def given(part: Tensor, generators: list[torch.Generator]) -> Inpaint | Between:
        u, here = torch.stack([torch.rand(shape, generator=g) for g in generators]), known[part % n]
        x0 = (pixels[part % n] + u - model.scale.mean) / model.scale.sigma
        if r != "through":
            return Inpaint(x0, here, annealed=r == "replacement")
        return filled_between(reverse, x0, here, solve, model.scale.limits)

    drawn = sample_each(
        kernel, Through.skip if r == "through" else reverse, n, shape, seeds, given, block
    )
    return torch.where(known, pixels, model.scale.to_pixels(drawn).reshape(len(seeds), n, *shape))


def sheet(picture: Tensor, known: Tensor, filled: Tensor) -> dict[str, Tensor]:
    """What the command shows, by name: the picture (c, h, w) with its hole, samples (n, c, h, w),
    their mean and spread.
    """
    shown = {"known": torch.where(known, picture, torch.tensor(GREY, dtype=torch.uint8))}
    shown |= {f"sample {number}": sample for number, sample in enumerate(filled, 1)}
    if len(filled) > 1:
        deviation = filled.float().std(0, correction=0)
        white = deviation.max().clamp(min=1)
        shown["mean"] = filled.float().mean(0).round().to(torch.uint8)
        shown["spread"] = (255 * deviation / white).round().to(torch.uint8)
    return shown


def check_out(out: Path, inputs: list[Path]) -> None:
    """Raises ParameterError or PictureError unless a picture can be written to ``out`` without
    loss, over none of ``inputs``.
    """
    if out.suffix.lower() not in LOSSLESS:
        kinds = ", ".join(LOSSLESS)
        raise ParameterError(
            f"--out is {str(out)!r}; its ending must name a format without loss, one of {kinds}"
        )
    try:
        if out.exists() and not out.is_file():
            raise PictureError(f"--out {out} is no file that could be replaced")
        for path in inputs:
            if out.exists() and path.exists() and out.samefile(path):
                raise ParameterError(
                    f"--out {out} is the same file as {path}; it would be overwritten"
                )
        folder = next(p for p in out.absolute().parents if os.path.lexists(p))
        if not folder.is_dir():
            raise PictureError(f"--out {out} cannot be written: {folder} is no folder")
        probe = (
            folder / f".{out.name}.{secrets.token_hex(6)}.tmp"
        )  # as long as the name that it will be written by
        probe.touch(exist_ok=False)  # permissions, a read-only disk, a name that is too long
        probe.unlink()
    except OSError as error:
        raise PictureError(
            f"--out {out} cannot be written: {error.strerror or one_line(error)}"
        ) from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium inpaint``."""
    parser.add_argument(
        "picture",
        type=Path,
        help="a picture file of the model's size (CIFAR-10: 32×32), or of any for bark",
    )
    parser.add_argument(
        "--mask",
        help="a picture (white is known, black or transparent missing; greys are split at half), a .npy of 0 and 1, "
        f"{' or '.join(MASKS)}; default: what is transparent in the picture, or else centre",
    )
    parser.add_argument("--model", default="cifar10_unet", help=", ".join(IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"1 to {MOST_SAMPLES}")
    parser.add_argument("--seed", type=int, default=0, help=f"0 to {LAST_SEED}")
    parser.add_argument(
        "--r",
        default="through",
        help="; ".join(f"{name} ({what})" for name, what in FACTORS.items()),
    )
    parser.add_argument("--steps", type=int, default=THIN, help="of the chain, T thinned: 2 to T")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("inpainted.png"),
        help="PNG, TIFF, BMP or PPM: the hole, the samples, their mean and spread; each sample also as OUT-1, OUT-2, …",
    )


def run(options: argparse.Namespace) -> None:
    """Fill in a picture and write the sheet: the picture with its hole, then the samples."""
    check_name("model", options.model, IMAGES)
    check_name("r", options.r, FACTORS)
    for name, value, low, high in [
        ("--samples", options.samples, 1, MOST_SAMPLES),
        ("--seed", options.seed, 0, LAST_SEED),
        ("--steps", options.steps, 2, MOST_STEPS),
    ]:
        if not low <= value <= high:
            raise ParameterError(
                f"{name} is {value}; it must be a whole number from {low} to {high}"
            )
    weights = options.weights or ROOT / "models" / f"{options.model}.safetensors"
    apart = [
        options.out.with_stem(f"{options.out.stem}-{k}") for k in range(1, options.samples + 1)
    ]
    for out in (options.out, *apart):
        check_out(out, [options.picture, weights, *([Path(options.mask)] if options.mask else [])])
    model = load_weights(weights, options.model)
    assert isinstance(model, ImageModel), "IMAGES are image experiments"
    shape = model.network.shape
    if anywhere := convolutional(model.params):
        shape = (shape[0], *size_of(options.picture))
    picture, opaque = read_picture(options.picture, shape)
    if options.mask is not None or opaque.all():
        mask = "centre" if options.mask is None else options.mask
        known = some_known(
            f"{mask} with the transparency of {options.picture}", read_mask(mask, shape) & opaque
        )
    else:
        known = some_known(f"the transparency of {options.picture}", opaque)
    keep_freed_memory()
    seeds = list(range(options.seed, options.seed + options.samples))
    steps = min(options.steps, model.params.n_steps)
    if anywhere and shape != model.network.shape:
        with enough_memory("filling in"):
            filled = fill(model, picture, known, seeds, options.r, steps, SOLVE)
    else:
        filled = inpaint(model, picture[None], known, seeds, options.r, steps)[:, 0]
    save_pictures(
        {options.out: rows(torch.stack([*sheet(picture, known, filled).values()]), 6, 192)}
        | dict(zip(apart, filled, strict=True))
    )
    name = os.fsencode(options.out).decode(
        errors="replace"
    )  # a name may hold bytes that no terminal can show
    print(
        f"{name}: the picture with {int((~known).sum())} pixels missing, "
        f"then {options.samples} samples" + ", their mean and their spread" * (len(filled) > 1)
    )
