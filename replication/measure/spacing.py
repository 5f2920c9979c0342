"""Which of the T steps of an image model a thinned chain keeps: those by which K loses least.

    nonequilibrium measure cifar10_unet --spacing

measures once, on training images set aside, what every step between two noise levels costs K
(``bound.thinning``), and writes it beside the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from nonequilibrium.bound.bound import bits
from nonequilibrium.bound.thinning import StepCosts, step_costs
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.thinning import thin
from nonequilibrium.errors import ParameterError
from nonequilibrium.files import save_contents, sha256
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from replication.data.textures import training_data
from replication.files import ROOT, check_writable
from replication.measure.metrics import seeded
from replication.restoration.inpaint import IMAGES
from replication.settings.fields import check_name

SEED = 0  # of the noise on the images and on x^t
FEW, MOST = 200, 1000  # images: with fewer than a hundred the levels follow chance


def costs_of(model: ImageModel, number: int = FEW, rows: int = 100) -> StepCosts:
    """``step_costs`` of a trained model on the first training images that are set aside."""
    random, constants = seeded(SEED), model.constants.clone()
    images: Any = training_data(model.params)
    model.take(images, seeded(SEED))
    model.constants.copy_(constants)  # those that are part of the weights
    x0 = model.x0(model.validation[:number], random)
    with torch.no_grad():
        kernel = model.kernel()
    return step_costs(kernel, model.reverse(kernel), x0, random, rows)


def place(weights: Path) -> Path:
    """The file of costs that belongs beside ``weights``."""
    return weights.with_suffix(".spacing.safetensors")


def save_costs(costs: StepCosts, weights: Path) -> None:
    """Write the costs beside ``weights``, with the SHA-256 of these."""
    tensors = {"t": costs.t, "log_rho": costs.log_rho, "KL": costs.KL.float(), "ends": costs.ends}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    save_contents({place(weights): save(tensors, {"weights": sha256(weights)})})


def load_costs(weights: Path) -> StepCosts | None:
    """The costs beside ``weights``; None where there are none of these weights."""
    try:
        with safe_open(place(weights), "pt") as file:
            if (file.metadata() or {}).get("weights") != sha256(weights):
                return None
            t, log_rho, KL, ends = (file.get_tensor(x) for x in ("t", "log_rho", "KL", "ends"))
    except (OSError, SafetensorError):
        return None
    return StepCosts(t, log_rho, KL.double(), ends)


def thinned(
    model: ImageModel, costs: StepCosts | None, n_steps: int
) -> tuple[GaussianKernel, Reverse[Normal]]:
    """(kernel, reverse) of the best chain of n_steps by ``costs``, without them of even steps."""
    if costs is None or n_steps == model.params.n_steps:
        return model.thinned(n_steps)
    with torch.no_grad():
        kernel = model.kernel()
    return thin(kernel, model.reverse(kernel), costs.best(kernel, [n_steps])[n_steps][0])


# ---------------------------------------------------------------- commands


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium spacing``."""
    parser.add_argument("model", help=", ".join(IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    meaning = f"training images set aside, 2 to {MOST}"
    parser.add_argument("--images", type=int, default=FEW, help=meaning)


def run(options: argparse.Namespace) -> None:
    """Measure what each step between two noise levels costs K, and write it beside the weights."""
    weights = weights_of(options)
    check_range("images", options.images, 2, MOST)
    check_writable(place(weights))
    model = model_of(options, weights)
    costs, T = costs_of(model, options.images), model.params.n_steps
    save_costs(costs, weights)
    with torch.no_grad():
        best = costs.best(model.kernel(), [n for n in (25, 50, 100, 250, 500) if n < T] + [T])
    K = {n: bits(value) / model.pixels for n, (_, value) in best.items()}
    loss = ", ".join(f"{K[n] - K[T]:+.3f} with {n} steps" for n in K if n < T)
    unit = f"bits per pixel, on {options.images} images"
    print(f"{place(weights)}: compared with all {T} steps K is {loss} ({unit})")


def weights_of(options: argparse.Namespace) -> Path:
    check_name("model", options.model, IMAGES)
    return options.weights or ROOT / "models" / f"{options.model}.safetensors"


def model_of(options: argparse.Namespace, weights: Path) -> ImageModel:
    model = load_weights(weights, options.model)
    assert isinstance(model, ImageModel), "IMAGES are image experiments"
    return model


def check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ParameterError(f"--{name} is {value}; it must be a whole number from {low} to {high}")
