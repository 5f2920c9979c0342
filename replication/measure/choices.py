"""What each choice of an image experiment is worth in bits: short trainings that differ in one
thing each.

    nonequilibrium choices cifar10

All variants train equally many steps from the same seed; each is measured on the same training
images that were set aside: K, and for MNIST the Parzen window estimate of samples. A finished
variant is kept in .checkpoints/ until all are, so an interrupted run goes on where it was, unless
code, parameters, data or libraries have changed since.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path

from nonequilibrium.bound.bound import bits
from nonequilibrium.bound.parzen import in_unit_interval, parzen
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import ImageModel
from nonequilibrium.training.checkpoint import read_state, write_result
from nonequilibrium.training.devices import keep_freed_memory
from replication.data.images import load_images
from replication.files import ROOT, check_writable, fingerprint, write_json
from replication.settings.fields import check_name
from replication.settings.settings import check, load
from replication.training.train import identity, train

VARIANTS: dict[str, dict[str, dict]] = {
    "mnist_dense": {
        "as chosen": {},
        "schedule: the reference program's": {"schedule": "reference"},
        "schedule: learned, from the chosen one": {"schedule": "learned"},
        "schedule: even log SNR from β₁ = 10⁻⁴": {"beta_1": 1e-4},
        "schedule: even log SNR from β₁ = 10⁻⁵": {"beta_1": 1e-5},
        "μ, Σ: the paper's (64), (65)": {"mean": "paper"},
        "μ, Σ: the reference program's": {"mean": "reference"},
        "μ, Σ: z^μ is the noise": {"mean": "posterior"},
        "network: one for every t": {"split": 0.0},
        "network: split at σ = 0.8": {"split": 0.8},
        "network: two dense layers above the split in place of four": {"dense_layers_above": 2},
        "network: 256 dense units in place of 1,088": {"dense_units": 256},
        "network: no 1×1 layer": {"pixel_layers": 0},
        "network: a 1×1 layer above the split too": {"pixel_layers_above": 1},
        "network: 8 bumps in place of 16": {"bumps": 8},
        "training: K itself, no emphasis on large noise": {"emphasis": 0.0},
        "training: half the emphasis": {"emphasis": 0.5},
        "optimiser: RMSprop": {
            "optimiser": "rmsprop",
            "learning_rate": 1e-3,
            "dense_learning_rate": 5e-4,
        },
    },
    "cifar10": {
        "as chosen": {},
        "schedule: the reference program's": {"schedule": "reference"},
        "schedule: learned, from the chosen one": {"schedule": "learned"},
        "schedule: even log SNR from β₁ = 5·10⁻⁵": {"beta_1": 5e-5},
        "μ, Σ: the paper's (64), (65)": {"mean": "paper"},
        "μ, Σ: the reference program's": {"mean": "reference"},
        "μ, Σ: z^μ is the velocity": {"mean": "velocity"},
        "network: softplus in place of leaky ReLU": {"activation": "softplus"},
        "network: one scale in place of four": {"scales": 1},
        "network: five layers of 42 maps in place of four of 48": {
            "conv_layers": 5,
            "conv_channels": 42,
        },
        "network: dense path beside the convolutions": {"dense_layers": 2},
        "network: a 1×1 layer": {"pixel_layers": 1},
        "optimiser: Adam": {"optimiser": "adam", "learning_rate": 3e-3},
    },
    "cifar10_unet": {
        "as chosen, but half as wide": {},
        "sees: no t": {"told_t": False},
        "sees: no differences of neighbours": {"differences": False},
        "sees: neither of them": {"told_t": False, "differences": False},
        "sees: three waves of the grey level too": {"waves": 3},
        "size: twice as wide, as chosen": {"channels": 48},
        "size: two residual blocks at each resolution": {"blocks": 2},
        "training: three times as long": {"times": 3},
        "optimiser: Adam": {"optimiser": "adam", "learning_rate": 1e-3},
    },
}
# What all variants of an experiment have in common: a network so small that a table of them takes
# an hour.
COMMON: dict[str, dict] = {"cifar10_unet": {"channels": 24}}


def one_variant(experiment: str, changes: dict, steps: int) -> dict:
    """Train one variant for ``steps`` steps: {"K", "seconds", "parameters"}, K in bits per pixel."""
    params = dataclasses.asdict(load(experiment))
    times = changes.get("times", 1)  # so many times the steps of the others
    params |= {"train_steps": times * steps, "ema": min(params["ema"], 0.99)} | COMMON.get(
        experiment, {}
    )
    params |= {name: value for name, value in changes.items() if name != "times"}
    checked = check(experiment, params)
    kept = unfinished(experiment) / f"{fingerprint(params)}.json"
    whose = identity(experiment, checked, load_images(checked.data), __file__)
    if experiment == "mnist_dense":
        whose["evaluation"] = dataclasses.asdict(load("evaluate_mnist"))
    if (result := read_state(kept, whose)) is not None:
        return result
    model, curve = train(experiment, checked, log_every=checked.train_steps)
    assert isinstance(model, ImageModel), "only image experiments have choices"
    result = {
        "K": model.validate(n=300),
        "seconds": curve[-1]["seconds"],
        "parameters": sum(p.numel() for p in model.network.parameters()),
    }
    if experiment == "mnist_dense":
        result["parzen"] = parzen_of(model)
    write_result(kept, whose, result)
    return result


def unfinished(experiment: str) -> Path:
    """The folder of the finished variants of an unfinished run."""
    return ROOT / ".checkpoints" / f"choices-{experiment}"


def parzen_of(model: ImageModel, n: int = 1000) -> float:
    """The Parzen window estimate of ``n`` samples of the thinned chain, bits an image.

    σ is chosen on the first 200 of the images set aside, the others are scored. So few samples, of
    whatever, score far below 10,000.
    """
    settings = load("evaluate_mnist")
    chain = model.thinned(min(settings.thin_steps, model.params.n_steps))
    drawn = sample_each(*chain, n, model.network.shape, settings.seed)
    levels = load_images(model.params.data).levels
    samples, aside = (
        in_unit_interval(x, levels) for x in (model.scale.to_pixels(drawn), model.validation)
    )
    return bits(parzen(samples, aside[:200], aside[200:])["mean"])


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium choices``."""
    parser.add_argument("experiment", help=", ".join(VARIANTS))


def run(options: argparse.Namespace) -> None:
    """Train and measure every variant of an experiment and write
    reports/metrics/<experiment>_choices.json.
    """
    experiment = options.experiment
    check_name("experiment", experiment, VARIANTS)
    target = ROOT / "reports" / "metrics" / f"{experiment}_choices.json"
    check_writable(target)
    keep_freed_memory()
    steps = load(f"{experiment}_choices").train_steps
    rows = [
        {"choice": name, **one_variant(experiment, changes, steps)}
        for name, changes in VARIANTS[experiment].items()
    ]
    content = {
        "experiment": experiment,
        "unit": "bits per pixel, on training images set aside",
        "train_steps": steps,
        "rows": rows,
    }
    write_json(target, content)
    shutil.rmtree(unfinished(experiment), ignore_errors=True)
