"""Which of a trained image model's T steps a thinned chain keeps: those by which K loses least.

    nonequilibrium measure cifar10_unet --spacing

This measures once, on training images that were set aside, what every step between two noise levels
costs K (``bound.thinning``), and writes it beside the weights. ``nonequilibrium sample cifar10_unet
--steps 50`` reads it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from nonequilibrium.bound.bound import bits
from nonequilibrium.bound.thinning import StepCosts, step_costs
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.thinning import even, thin
from nonequilibrium.errors import ParameterError
from nonequilibrium.files import save_contents, sha256
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from replication.data.loading import training_data
from replication.files import ROOT
from replication.measure.metrics import seeded
from replication.restoration.inpaint import IMAGES
from replication.settings.fields import check_name

SEED = 0  # of the noise on the images and on x^t
FEW, MOST = 200, 1000  # images: fewer than a hundred, and the levels follow what is chance in them


def costs_of(model: ImageModel, images: int = FEW, rows: int = 100) -> StepCosts:
    """``step_costs`` of a trained model on so many training images that were set aside."""
    random, constants = seeded(SEED), model.constants.clone()
    model.take(training_data(model.params), seeded(SEED))
    model.constants.copy_(constants)  # those that are part of the weights
    aside = model.validation[:images]
    with torch.no_grad():
        kernel = model.kernel()
    return step_costs(kernel, model.reverse(kernel), model.x0(aside, random), random, rows)


def place(weights: Path) -> Path:
    """The file of costs that belongs beside ``weights``."""
    return weights.with_suffix(".spacing.safetensors")


def save_costs(costs: StepCosts, weights: Path) -> Path:
    """Write the costs beside ``weights``, with the sum of the weights to which they belong; returns
    where.
    """
    tensors = {"t": costs.t, "log_rho": costs.log_rho, "KL": costs.KL.float(), "ends": costs.ends}
    raw = save(
        {name: value.contiguous() for name, value in tensors.items()}, {"weights": sha256(weights)}
    )
    save_contents({place(weights): raw})
    return place(weights)


def load_costs(weights: Path) -> StepCosts | None:
    """The costs beside ``weights``; None where there are none or where they are those of other
    weights.
    """
    try:
        with safe_open(place(weights), "pt") as file:
            if (file.metadata() or {}).get("weights") != sha256(weights):
                return None
            its = {name: file.get_tensor(name) for name in ("t", "log_rho", "KL", "ends")}
    except (OSError, SafetensorError):
        return None
    return StepCosts(its["t"], its["log_rho"], its["KL"].double(), its["ends"])


def levels(model: ImageModel, costs: StepCosts | None, n_steps: int) -> list[int]:
    """The steps that a chain of ``n_steps`` keeps: the best by ``costs``, or evenly spaced ones
    where there are none.
    """
    with torch.no_grad():
        kernel = model.kernel()
    return even(kernel.T, n_steps) if costs is None else costs.best(kernel, [n_steps])[n_steps][0]


def thinned(
    model: ImageModel, costs: StepCosts | None, n_steps: int
) -> tuple[GaussianKernel, Reverse[Normal]]:
    """(kernel, reverse) of the chain of ``n_steps`` that keeps ``levels``; with n_steps = T it is
    the model itself.
    """
    if n_steps == model.params.n_steps:
        return model.thinned(n_steps)
    with torch.no_grad():
        kernel = model.kernel()
    return thin(kernel, model.reverse(kernel), levels(model, costs, n_steps))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium spacing``."""
    parser.add_argument("model", help=", ".join(IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument(
        "--images", type=int, default=FEW, help=f"training images that were set aside, 2 to {MOST}"
    )


def run(options: argparse.Namespace) -> None:
    """Measure what each step between two noise levels costs K, and write it beside the weights."""
    check_name("model", options.model, IMAGES)
    if not 2 <= options.images <= MOST:
        raise ParameterError(
            f"--images is {options.images}; it must be a whole number from 2 to {MOST}"
        )
    weights = options.weights or ROOT / "models" / f"{options.model}.safetensors"
    model = load_weights(weights, options.model)
    assert isinstance(model, ImageModel), "IMAGES are image experiments"
    costs = costs_of(model, options.images)
    path = save_costs(costs, weights)
    with torch.no_grad():
        kernel = model.kernel()
    steps = [n for n in (25, 50, 100, 250, 500) if n < kernel.T] + [kernel.T]
    K = {n: bits(found[1]) / model.pixels for n, found in costs.best(kernel, steps).items()}
    told = ", ".join(f"{K[n] - K[kernel.T]:+.3f} with {n} steps" for n in steps[:-1])
    print(
        f"{path}: against all {kernel.T} steps K is {told} (bits/pixel, on {options.images} images)"
    )
