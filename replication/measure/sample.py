"""Samples of a trained image model, none chosen.

    nonequilibrium sample cifar10_unet --steps 50 --number 40 --out samples.png

With ``--steps`` the chain keeps the noise levels by which K loses least, as ``measure MODEL
--spacing`` measured them, or evenly spaced ones. The i-th sample depends on the seed and i alone.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.training.devices import keep_freed_memory
from replication.data.pictures import rows, save_pictures
from replication.measure.spacing import load_costs, thinned
from replication.restoration import inpaint


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium sample``."""
    parser.add_argument("model", help=", ".join(inpaint.IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument("--number", type=int, default=16, help=f"1 to {inpaint.MOST_SAMPLES}")
    parser.add_argument("--steps", type=int, help="of a thinned chain, faster and worse; default T")
    parser.add_argument("--seed", type=int, default=0, help=f"0 to {inpaint.LAST_SEED}")
    out = Path("samples.png")
    parser.add_argument("--out", type=Path, default=out, help="PNG, TIFF, BMP or PPM")


def run(options: argparse.Namespace) -> None:
    """Draw samples and write them side by side into one picture."""
    inpaint.check_numbers(options, number=(1, inpaint.MOST_SAMPLES), seed=(0, inpaint.LAST_SEED))
    weights, model = inpaint.image_model(options.model, options.weights)
    inpaint.check_out(options.out, [weights])
    T = model.params.n_steps
    options.steps = steps = T if options.steps is None else options.steps
    inpaint.check_numbers(options, steps=(2, T))
    keep_freed_memory()
    costs = load_costs(weights)
    chain = thinned(model, costs, steps)
    x = sample_each(*chain, options.number, model.network.shape, options.seed)
    columns = math.ceil(options.number**0.5)
    save_pictures({options.out: rows(model.scale.to_pixels(x), columns, 128)})
    way = "" if steps == T else ", evenly spaced" if costs is None else ", those that lose least"
    out = os.fsencode(options.out).decode(errors="replace")
    print(f"{out}: {options.number} samples by {steps} of {T} steps{way}")
