"""Bits/dim, on pictures, of any diffusion model that ``adapters.adapted`` knows."""

import argparse
import importlib
import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from nonequilibrium import adapters
from nonequilibrium.adapters.work import Options, Work
from nonequilibrium.distributed import first, group
from nonequilibrium.errors import AdapterError, ParameterError, one_line
from nonequilibrium.files import bar
from nonequilibrium.model.weights import load_weights
from replication.data.images import LABELS, SOURCES, load_images, load_labels
from replication.data.pictures import read_opaque, rows, save_pictures
from replication.data.textures import KINDS
from replication.files import ROOT
from replication.restoration.inpaint import IMAGES, check_out

BLOCK, SHOWN = 50, 8  # images


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``nonequilibrium bits``."""
    add = parser.add_argument
    add("model", help="a folder saved by diffusers, weights (a file or a name), or module:function")
    add("--images", required=True, help=f"a folder, or {', '.join(SOURCES)}")
    add("--labels", action="store_true", help="classes: of the data set, or by subfolders")
    add("--draws", type=int, help="steps t per image and replicate")
    add("--steps", type=int, help="of a sampler with fewer steps than T")
    add("--within", type=float, help="stop when the error is this small, bits/dim")
    add("--map", type=Path, help="a picture of the bits of every pixel of some images")
    add("--json", action="store_true", help="print a record in place of a sentence")
    add("--seed", type=int, default=0, help="of noise and of the images' order")


def run(options: argparse.Namespace) -> None:
    """Print the mean over the images that were measured, which are in random order."""
    if options.map:
        check_out(options.map, [])
    model, channels = model_of(options.model)
    model = adapters.fewer(model, options.steps) if options.steps else adapters.adapted(model)
    images, labels, levels = images_of(options.images, channels, options.labels)
    draws = options.draws or max(1, min(20, 4000 // len(images)))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(options.seed))
    images, labels = images[order], None if labels is None else labels[order]
    about = {"levels": levels, "seed": options.seed}
    with group():
        costs = by_blocks(model, images, labels, draws, options.within, about)
        if not first():
            return
    if options.map and (maps := costs[0].map) is not None:
        shown = drawn(images[:SHOWN], maps[:SHOWN].mean(1, keepdim=True), levels)
        save_pictures({options.map: shown})
    done = mean_of(costs)
    if options.json:
        return print(json.dumps(done))
    value, error, alone, number = (done[k] for k in ("bits_per_dim", "se", "mc_se", "images"))
    message = f"{value:.4f} ± {error:.4f} bits/dim on {number} images"
    print(f"{message} (Monte Carlo alone ± {alone:.4f})")


def by_blocks(model, images: Tensor, labels, draws: int, within: float | None, about: dict) -> list:
    """The costs of blocks of images, of all or until the error of the mean is at most within."""
    few, seed = None if labels is None else labels[:16], about["seed"]
    work = Work(model, images[:16], few, Options(**about))
    proposal = getattr(work.reverse, "proposal", None)
    about = about | {"proposal": work.pilot() if proposal is None else proposal}
    costs: list[adapters.Cost] = []
    blocks = torch.arange(len(images)).tensor_split(max(1, round(len(images) / BLOCK)))
    with bar(total=len(images), unit="image") as progress:
        try:
            for number, part in enumerate(blocks):
                given = None if labels is None else labels[part]
                about["seed"] = seed + 1_000_003 * number
                costs.append(adapters.bits_per_dim(model, images[part], draws, given, **about))
                done = mean_of(costs)
                progress.set_description(f"{done['bits_per_dim']:.4f} ± {done['se']:.4f} bits/dim")
                progress.update(len(part))
                if within and done["images"] >= 2 * BLOCK and done["se"] <= within:
                    break
        except KeyboardInterrupt:
            if not costs:
                raise
            print("interrupted: this is what is known so far", file=sys.stderr)
    return costs


def drawn(images: Tensor, bits: Tensor, levels: int) -> Tensor:
    """Images and, in the row below, the bits of their pixels, white where most are needed."""
    white = (255 * bits / bits.quantile(0.995)).clamp(0, 255).expand(images.shape)
    grey = images.float() * 255 / (levels - 1)
    return rows(torch.cat([grey, white]).to(torch.uint8), len(images), 128)


def mean_of(costs: list[adapters.Cost]) -> dict:
    """The mean over the images of ``costs`` and its errors, as a record."""
    every = torch.cat([cost.per_example for cost in costs])
    noise = math.fsum((len(cost.per_example) * cost.mc_se) ** 2 for cost in costs)
    record = {"bits_per_dim": float(every.mean()), "se": float(every.std()) / len(every) ** 0.5}
    return record | {"mc_se": noise**0.5 / len(every), "images": len(every)}


def model_of(name: str):
    """The model that ``name`` means, and its channels where they are known."""
    path = ROOT / "models" / f"{name}.safetensors" if name in IMAGES else Path(name)
    if path.suffix == ".safetensors":
        model = load_weights(path)
        return model, model.network.shape[0]
    if path.is_dir():
        from diffusers import DiffusionPipeline

        try:
            pipeline = DiffusionPipeline.from_pretrained(path, local_files_only=True)
        except Exception as error:  # of many kinds
            message = f"{path} is no pipeline that diffusers saved: {one_line(error):.200}"
            raise AdapterError(message) from None
        network = getattr(pipeline, "unet", None)
        return pipeline, getattr(getattr(network, "config", None), "in_channels", None)
    module, colon, function = name.partition(":")
    if not colon:
        allowed = "a folder, weights ending in .safetensors, or module:function"
        names = ", ".join(IMAGES)
        raise ParameterError(f"MODEL is {name!r}; it must be {allowed}, or one of {names}")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), function)(), None
    except Exception as error:  # of a function that somebody else wrote
        raise ParameterError(f"MODEL {name!r} is not available: {one_line(error)}") from error


def images_of(name: str, channels: int | None, labelled: bool) -> tuple[Tensor, Tensor | None, int]:
    """Test images, or the pictures of a folder and of its subfolders; their labels; levels."""
    if name in SOURCES:
        if labelled and name not in LABELS:
            raise ParameterError(f"--labels: {name} has none; {', '.join(LABELS)} have")
        known = load_images(name)
        return known.test, load_labels(name)[1] if labelled else None, known.levels
    paths = sorted(p for p in Path(name).rglob("*") if p.suffix.lower() in KINDS and p.is_file())
    if len(paths) < 2:
        allowed = f"a folder with at least two pictures, or one of {', '.join(SOURCES)}"
        raise ParameterError(f"--images is {name!r}; it must be {allowed}")
    pictures: list[Tensor] = []
    for path in paths:
        size = pictures[0].shape[1:] if pictures else ()
        pictures.append(read_opaque(path, (channels or 3, *size)))
    images = torch.stack(pictures)
    if channels is None and (images == images[:, :1]).all():
        images = images[:, :1]  # grey, whatever the file says
    classes = sorted({path.parent for path in paths})
    labels = torch.tensor([classes.index(path.parent) for path in paths])
    return images, labels if labelled else None, 256
