"""Train an experiment by name, and write what a training leaves."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from torch import nn

from nonequilibrium.data.images import load_images
from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.experiment.registry import MODELS
from nonequilibrium.experiment.toys import best_start
from nonequilibrium.experiment.weights import save_trained
from nonequilibrium.fields import check_name
from nonequilibrium.files import ROOT, fingerprint
from nonequilibrium.params import EXPERIMENTS, ImageParams, load, overrides
from nonequilibrium.training.devices import keep_freed_memory
from nonequilibrium.training.fit import fit


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium train``, which needs no notebook and no plotting library."""
    parser.add_argument("experiment", help="a section of params.yaml: " + ", ".join(EXPERIMENTS))
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter to change")
    parser.add_argument("--outputs", type=Path, default=ROOT, help="where models/ and reports/ are; the repository")
    parser.add_argument(
        "--log-every", type=int, default=500, metavar="STEPS", help="between points of the training curve"
    )


def run(options: argparse.Namespace) -> None:
    """Train one experiment from ``params.yaml`` and write its weights."""
    check_name("experiment", options.experiment, EXPERIMENTS)
    params = load(options.experiment, overrides(options.p))
    keep_freed_memory()
    began = time.time()
    model, curve = train(options.experiment, params, ROOT / ".checkpoints", options.device, log_every=options.log_every)
    save_trained(model, options.experiment, curve, options.outputs, options.device)
    print(f"{options.experiment}: K = {curve[-1].get('K_validation', curve[-1]['K']):.3f}, {time.time() - began:.0f} s")


def train(
    experiment: str, params, checkpoints: Path | None = None, device: str = "cpu", log_every: int = 100
) -> tuple[nn.Module, list[dict]]:
    """Train ``experiment`` from nothing, or from the checkpoint that an interrupted run of the same settings left.

    checkpoints: directory for the checkpoint, one file a setting; none is written if None.
    device: for image experiments; the toys always use one CPU thread, because their networks are too small to gain from more and
        the result then does not depend on how many there are.
    Returns the model, on the CPU, and its training curve. Raises DataError if the images are not there.
    """
    settings = {"experiment": experiment, **dataclasses.asdict(params)}
    checkpoint = checkpoints and Path(checkpoints) / f"{experiment}-{fingerprint(settings)}.pt"
    options = {"checkpoint": checkpoint, "label": experiment, "log_every": log_every}
    threads = torch.get_num_threads()
    if isinstance(params, ImageParams):
        model = ImageModel(params, load_images(params.data)).to(device)
        options |= model.fit_options()
    else:
        torch.set_num_threads(1)
        model = MODELS[experiment](params)
    try:
        if getattr(params, "starts", 1) > 1:
            model = best_start(params, options)
        curve = fit(model, model.K, model.groups(), params.train_steps, params.seed, **options)
    finally:
        torch.set_num_threads(threads)
    model.finish()
    return model.cpu(), curve
