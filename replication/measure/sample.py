"""Samples of a trained image model, none chosen, by all of its steps or by fewer.

``measure MODEL --spacing`` writes the cost in K of every step beside the weights. By these costs
``sample MODEL --steps`` keeps the levels with the least loss, without them evenly spaced levels.
"""

import argparse
import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from nonequilibrium.bound.bound import bits
from nonequilibrium.bound.thinning import StepCosts, step_costs
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.diffusion.thinning import thin
from nonequilibrium.files import save_contents, sha256
from nonequilibrium.model.images import ImageModel
from nonequilibrium.training.devices import keep_freed_memory
from replication.data.pictures import rows, save_pictures
from replication.data.textures import training_data
from replication.measure.metrics import seeded
from replication.restoration import inpaint

SEED = 0  # of the noise on the images and on x^t
FEW = 200  # images: with fewer than a hundred the levels follow chance


def costs_of(model: ImageModel) -> StepCosts:
    """``step_costs`` of a trained model on the first training images that are set aside."""
    random, constants = seeded(SEED), model.constants.clone()
    images: Any = training_data(model.params)
    model.take(images, seeded(SEED))
    model.constants.copy_(constants)  # those that are part of the weights
    x0 = model.x0(model.validation[:FEW], random)
    with torch.no_grad():
        kernel = model.kernel()
    return step_costs(kernel, model.reverse(kernel), x0, random, 100)


def place(weights: Path) -> Path:
    """The file of costs beside ``weights``."""
    return weights.with_suffix(".spacing.safetensors")


def save_costs(costs: StepCosts, weights: Path) -> None:
    """Write the costs beside ``weights``, with the SHA-256 of these."""
    tensors = vars(costs) | {"KL": costs.KL.float().contiguous()}
    save_contents({place(weights): save(tensors, {"weights": sha256(weights)})})


def load_costs(weights: Path) -> StepCosts | None:
    """The costs beside ``weights``; None where there are none of these weights."""
    try:
        with safe_open(place(weights), "pt") as file:
            if (file.metadata() or {}).get("weights") != sha256(weights):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError):
        return None
    return StepCosts(**tensors | {"KL": tensors["KL"].double()})


def thinned(
    model: ImageModel, costs: StepCosts | None, n_steps: int
) -> tuple[GaussianKernel, Reverse[Normal]]:
    """(kernel, reverse) of the best chain of n_steps by ``costs``, without them of even steps."""
    if costs is None or n_steps == model.params.n_steps:
        return model.thinned(n_steps)
    with torch.no_grad():
        kernel = model.kernel()
    return thin(kernel, model.reverse(kernel), costs.best(kernel, [n_steps])[n_steps][0])


def space(options: argparse.Namespace) -> None:
    """Measure what each step between two noise levels costs K, and write it beside the weights."""
    weights, model = inpaint.image_model(options)
    costs, T = costs_of(model), model.params.n_steps
    save_costs(costs, weights)
    with torch.no_grad():
        best = costs.best(model.kernel(), [n for n in (25, 50, 100, 250, 500) if n < T] + [T])
    K = {n: bits(value) / model.pixels for n, (_, value) in best.items()}
    loss = ", ".join(f"{K[n] - K[T]:+.3f} with {n} steps" for n in K if n < T)
    loss += f" (bits per pixel, on {FEW} images)"
    print(f"{place(weights)}: compared with all {T} steps K is {loss}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``nonequilibrium sample``."""
    parser.add_argument("model", help=", ".join(inpaint.IMAGES))
    parser.add_argument("--weights", type=Path, help="default: models/MODEL.safetensors")
    parser.add_argument("--number", type=int, default=16, help=f"1 to {inpaint.MOST_SAMPLES}")
    parser.add_argument("--steps", type=int, help="of a thinned chain, faster and worse; default T")
    parser.add_argument("--seed", type=int, default=0, help=f"0 to {inpaint.LAST_SEED}")
    kinds = "PNG, TIFF, BMP or PPM"
    parser.add_argument("--out", type=Path, default=Path("samples.png"), help=kinds)


def run(options: argparse.Namespace) -> None:
    """Draw samples and write them side by side into one picture; the i-th depends on seed and i."""
    inpaint.check_numbers(options, number=(1, inpaint.MOST_SAMPLES), seed=(0, inpaint.LAST_SEED))
    weights, model = inpaint.image_model(options, [options.out])
    T = model.params.n_steps
    options.steps = steps = T if options.steps is None else options.steps
    inpaint.check_numbers(options, steps=(2, T))
    keep_freed_memory()
    costs = load_costs(weights)
    chain = thinned(model, costs, steps)
    x = sample_each(*chain, options.number, model.network.shape, options.seed)
    picture = rows(model.scale.to_pixels(x), math.ceil(options.number**0.5), 128)
    save_pictures({options.out: picture})
    way = "" if steps == T else ", evenly spaced" if costs is None else ", those that lose least"
    out = os.fsencode(options.out).decode(errors="replace")
    print(f"{out}: {options.number} samples by {steps} of {T} steps{way}")
