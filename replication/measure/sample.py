"""Samples of a trained image model, none chosen.

    nonequilibrium sample cifar10_unet --steps 50 --number 40 --out samples.png

With ``--steps`` the chain keeps the noise levels by which K loses least, as ``measure MODEL
--spacing`` measured them, or evenly spaced ones. Each sample has the noise of the last step, as
p(x^0) has. The i-th depends on the seed and on i alone.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.errors import ParameterError
from nonequilibrium.training.devices import keep_freed_memory
from replication.data.pictures import rows, save_pictures
from replication.measure.spacing import image_model, load_costs, thinned
from replication.restoration.inpaint import IMAGES, LAST_SEED, MOST_SAMPLES, check_out


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium sample``."""
    parser.add_argument("model", help=", ".join(IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument("--number", type=int, default=16, help=f"1 to {MOST_SAMPLES}")
    parser.add_argument("--steps", type=int, help="of a thinned chain, faster and worse; default T")
    parser.add_argument("--seed", type=int, default=0, help=f"0 to {LAST_SEED}")
    out = Path("samples.png")
    parser.add_argument("--out", type=Path, default=out, help="PNG, TIFF, BMP or PPM")


def run(options: argparse.Namespace) -> None:
    """Draw samples and write them side by side into one picture."""

    def check(name: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            wanted = f"it must be a whole number from {low} to {high}"
            raise ParameterError(f"--{name} is {value}; {wanted}")

    check("number", options.number, 1, MOST_SAMPLES)
    check("seed", options.seed, 0, LAST_SEED)
    weights, model = image_model(options.model, options.weights)
    check_out(options.out, [weights])
    T = model.params.n_steps
    steps = T if options.steps is None else options.steps
    check("steps", steps, 2, T)
    keep_freed_memory()
    costs = load_costs(weights)
    chain = thinned(model, costs, steps)
    x = sample_each(*chain, options.number, model.network.shape, options.seed)
    columns = math.ceil(options.number**0.5)
    save_pictures({options.out: rows(model.scale.to_pixels(x), columns, 128)})
    way = "" if steps == T else ", evenly spaced" if costs is None else ", those that lose least"
    out = os.fsencode(options.out).decode(errors="replace")
    print(f"{out}: {options.number} samples by {steps} of {T} steps{way}")
