"""Fill in a part of a picture by the posterior of a trained image model (section 2.5).

    nonequilibrium inpaint picture.png --mask mask.png --out filled.png

Known pixels come out exactly as given. A model without a dense path, such as that of bark, takes
pictures of any size.
"""

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor
from nonequilibrium.diffusion.evidence import Through
from nonequilibrium.diffusion.posterior import Inpaint
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.errors import ParameterError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from nonequilibrium.training.devices import enough_memory, keep_freed_memory
from replication.data import pictures
from replication.data.pictures import LOSSLESS, PictureError
from replication.files import ROOT, OutputError, check_writable
from replication.restoration.inpaint_any import convolutional, entering, fill
from replication.settings.fields import check_name
from replication.settings.registry import EXPERIMENTS

IMAGES = [name for name, experiment in EXPERIMENTS.items() if experiment.images]
MOST_SAMPLES, LAST_SEED, MOST_STEPS = 1000, 2**32 - 1, 10_000
SAMPLES, THIN = 4, 100  # unless the command says otherwise: samples, steps of the chain
SOLVE = 5  # steps of conjugate gradients; 3 left errors a few per cent larger
FACTORS = {  # how the known pixels enter the reverse chain
    "through": "r_t looks through the model, so that what is filled in goes with what is known",
    "constant": "the paper's: r is the same at all t",
    "replacement": "the known pixels follow their own forward chain, and nothing is conditioned on",
}


def centre(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: a square of half the side is missing in the middle."""
    known = torch.ones(height, width, dtype=torch.bool)
    known[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    return known


def left(height: int, width: int) -> Tensor:
    """Mask (h, w), true where known: the right half is missing."""
    return (torch.arange(width) < width // 2).expand(height, width).clone()


MASKS = {"centre": centre, "left": left}


def read_mask(mask: str, shape: tuple[int, ...]) -> Tensor:
    """A mask by name or from a file, (h, w) bool; raises ParameterError or PictureError."""
    name, path = mask.strip().lower().replace("center", "centre"), Path(mask)
    if name in MASKS:
        return MASKS[name](*shape[1:])
    if path.name == mask and not path.suffix and not os.path.lexists(path):
        check_name("mask", name, [*MASKS, "a file"])
    return pictures.read_mask_file(path, shape)


def inpaint(
    model: ImageModel, pixels: Tensor, known: Tensor, seeds: list[int], r="through", n_steps=None
) -> Tensor:
    """Posterior samples given the known pixels: (len(seeds), n, c, h, w) uint8.

    pixels: (n, c, h, w) uint8, any where nothing is known. known: bool, broadcastable to it. seeds:
    one for each sample of an image; the k-th of image i depends on (seeds[k], i) alone. r: a key of
    ``FACTORS``. n_steps: of the chain, all T if None. Raises ParameterError, PictureError.
    """
    shape = model.network.shape
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != shape:
        given = f"{pixels.dtype} of shape {tuple(pixels.shape)}"
        raise PictureError(f"the pixels are {given}; they must be uint8 of images {shape}")
    check_name("r", r, FACTORS)
    if not seeds:
        raise ParameterError("seeds is empty; it must have one seed for each sample")
    kernel, reverse = model.thinned(model.params.n_steps if n_steps is None else n_steps)
    known, n = Inpaint(pixels, known).known, len(pixels)

    def factor(part: Tensor, generators: list[torch.Generator]) -> Factor:
        u = torch.stack([torch.rand(shape, generator=g) for g in generators])
        x0 = (pixels[part % n] + u - model.scale.mean) / model.scale.sigma
        return entering(r, reverse, x0, known[part % n], SOLVE, model.scale.limits)

    plain = Through.skip if r == "through" else reverse
    x = sample_each(kernel, plain, n, shape, seeds, factor)
    return torch.where(known, pixels, model.scale.to_pixels(x).reshape(len(seeds), n, *shape))


def sheet(picture: Tensor, known: Tensor, filled: Tensor) -> dict[str, Tensor]:
    """The named pictures (c, h, w) that the command shows: the hole, samples, mean and spread."""
    samples = {f"sample {number}": sample for number, sample in enumerate(filled, 1)}
    deviation = filled.float().std(0, correction=0)
    spread = (255 * deviation / deviation.max().clamp(min=1)).round().to(torch.uint8)
    mean = {"mean": filled.float().mean(0).round().to(torch.uint8), "spread": spread}
    shown = {"known": torch.where(known, picture, 128)} | samples
    return shown | mean if len(filled) > 1 else shown


def image_model(options: argparse.Namespace, outputs=(), inputs=()) -> tuple[Path, ImageModel]:
    """Where the weights of an image experiment are, and its model, once ``outputs`` are checked."""
    check_name("model", options.model, IMAGES)
    weights = options.weights or ROOT / "models" / f"{options.model}.safetensors"
    for path in outputs:
        check_out(path, [weights, *inputs])
    model = load_weights(weights, options.model)
    assert isinstance(model, ImageModel), "IMAGES are image experiments"
    return weights, model


def check_numbers(options: argparse.Namespace, **limits: tuple[int, int]) -> None:
    """Raises ParameterError unless each named option lies within its limits."""
    for name, (low, high) in limits.items():
        if not low <= (value := getattr(options, name)) <= high:
            wanted = f"it must be a whole number from {low} to {high}"
            raise ParameterError(f"--{name} is {value}; {wanted}")


def check_out(out: Path, inputs: list[Path]) -> None:
    """Raises ParameterError or OutputError unless ``out`` can be written, over no input."""
    if out.suffix.lower() not in LOSSLESS:
        kinds = f"a format without loss, one of {', '.join(LOSSLESS)}"
        raise ParameterError(f"--out is {str(out)!r}; its ending must name {kinds}")
    check_writable(out)
    if out.exists() and not out.is_file():
        raise OutputError(f"--out {out} cannot be written: it is no file that could be replaced")
    for path in inputs:
        if out.exists() and path.exists() and out.samefile(path):
            raise ParameterError(f"--out {out} is the same file as {path}; choose another")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium inpaint``."""
    mask = "a picture (white is known, black or transparent missing), "
    mask += f"{' or '.join(MASKS)}; default: what is transparent in the picture, or else centre"
    picture = "a picture of the model's size (CIFAR-10: 32×32), or of any size for bark"
    out = "PNG, TIFF, BMP or PPM: hole, samples, mean and spread; each sample also as OUT-1, …"
    r = "; ".join(f"{name} ({meaning})" for name, meaning in FACTORS.items())
    parser.add_argument("picture", type=Path, help=picture)
    parser.add_argument("--mask", help=mask)
    parser.add_argument("--model", default="cifar10_unet", help=", ".join(IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"1 to {MOST_SAMPLES}")
    parser.add_argument("--seed", type=int, default=0, help=f"0 to {LAST_SEED}")
    parser.add_argument("--r", default="through", help=r)
    parser.add_argument("--steps", type=int, default=THIN, help="of the chain, T thinned: 2 to T")
    parser.add_argument("--out", type=Path, default=Path("inpainted.png"), help=out)


def run(options: argparse.Namespace) -> None:
    """Fill in a picture and write the sheet and the samples."""
    check_name("r", options.r, FACTORS)
    check_numbers(options, samples=(1, MOST_SAMPLES), seed=(0, LAST_SEED), steps=(2, MOST_STEPS))
    out, seeds = options.out, list(range(options.seed, options.seed + options.samples))
    apart = [out.with_stem(f"{out.stem}-{k}") for k in range(1, options.samples + 1)]
    inputs = [options.picture, *([Path(options.mask)] if options.mask else [])]
    _, model = image_model(options, [out, *apart], inputs)
    own = model.network.shape
    size = own[:1] if convolutional(model.params) else own  # a network of convolutions takes any
    picture, known = pictures.read_picture(options.picture, size)  # opaque pixels are known
    shape, source = (own[0], *known.shape), f"the transparency of {options.picture}"
    if options.mask is not None or known.all():
        mask = "centre" if options.mask is None else options.mask
        known, source = read_mask(mask, shape) & known, f"{mask} with {source}"
    pictures.some_known(source, known)
    keep_freed_memory()
    steps = min(options.steps, model.params.n_steps)
    if shape == own:
        filled = inpaint(model, picture[None], known, seeds, options.r, steps)[:, 0]
    else:
        with enough_memory("filling in"):
            filled = fill(model, picture, known, seeds, options.r, steps, SOLVE)
    shown = pictures.rows(torch.stack([*sheet(picture, known, filled).values()]), 6, 192)
    pictures.save_pictures({out: shown} | dict(zip(apart, filled, strict=True)))
    missing = f"{int((~known).sum())} pixels missing, then {options.samples} samples"
    # A name may hold bytes that no terminal can show.
    print(f"{os.fsencode(out).decode(errors='replace')}: the picture with {missing}")
