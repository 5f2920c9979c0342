"""Draw true samples of a trained image model, none chosen.

    nonequilibrium sample cifar10 --number 40 --out samples.png

With ``--steps`` the chain keeps the noise levels by which K loses least, as ``measure MODEL
--spacing`` measured them, or evenly spaced ones. Each sample has the noise of the last step, as
p(x^0) has. The i-th depends on the seed and on i alone, so that more samples begin with the same
ones.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.errors import ParameterError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from nonequilibrium.training.devices import keep_freed_memory
from replication.files import ROOT
from replication.measure.spacing import load_costs, thinned
from replication.restoration.inpaint import IMAGES, LAST_SEED, MOST_SAMPLES, check_out
from replication.restoration.pictures import save_pictures
from replication.restoration.sheets import rows
from replication.settings.fields import check_name


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium sample``."""
    parser.add_argument("model", help=", ".join(IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument("--number", type=int, default=16, help=f"1 to {MOST_SAMPLES}")
    parser.add_argument(
        "--steps", type=int, help="of a thinned chain, faster and somewhat worse; default: all T"
    )
    parser.add_argument("--seed", type=int, default=0, help=f"0 to {LAST_SEED}")
    parser.add_argument(
        "--out", type=Path, default=Path("samples.png"), help="PNG, TIFF, BMP or PPM"
    )


def run(options: argparse.Namespace) -> None:
    """Draw samples and write them side by side into one picture."""
    check_name("model", options.model, IMAGES)
    for name, value, low, high in [
        ("number", options.number, 1, MOST_SAMPLES),
        ("seed", options.seed, 0, LAST_SEED),
    ]:
        if not low <= value <= high:
            raise ParameterError(
                f"--{name} is {value}; it must be a whole number from {low} to {high}"
            )
    weights = options.weights or ROOT / "models" / f"{options.model}.safetensors"
    check_out(options.out, [weights])
    model = load_weights(weights, options.model)
    assert isinstance(model, ImageModel), "IMAGES are image experiments"
    T = model.params.n_steps
    steps = T if options.steps is None else options.steps
    if not 2 <= steps <= T:
        raise ParameterError(f"--steps is {steps}; it must be a whole number from 2 to T = {T}")
    keep_freed_memory()
    costs = load_costs(weights)
    drawn = sample_each(
        *thinned(model, costs, steps), options.number, model.network.shape, options.seed
    )
    save_pictures({options.out: rows(model.scale.to_pixels(drawn), math.ceil(options.number**0.5))})
    which = "" if steps == T else ", evenly spaced" if costs is None else ", those that lose least"
    print(
        f"{os.fsencode(options.out).decode(errors='replace')}: {options.number} samples by {steps} of {T} steps{which}"
    )
