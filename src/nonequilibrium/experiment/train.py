"""Train an experiment by name, and write what a training leaves."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from nonequilibrium.data.images import ImageSet
from nonequilibrium.errors import one_line
from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.experiment.model import Model
from nonequilibrium.experiment.registry import EXPERIMENTS, MODELS
from nonequilibrium.experiment.settings import load
from nonequilibrium.experiment.toys import PointsModel, best_start, start_checkpoint
from nonequilibrium.experiment.weights import outputs_of, save_trained
from nonequilibrium.fields import check_name, overrides
from nonequilibrium.files import ROOT, check_writable, fingerprint, sweep
from nonequilibrium.params import ImageParams
from nonequilibrium.training.checkpoint import TRAINING_CODE, surroundings
from nonequilibrium.training.devices import enough_memory, keep_freed_memory, usable_device
from nonequilibrium.training.fit import TrainingError, check_log_every, fit


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium train``, which needs no notebook and no plotting library."""
    parser.add_argument("experiment", help="a section of params.yaml: " + ", ".join(EXPERIMENTS))
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; toys always use the cpu")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter to change")
    parser.add_argument("--outputs", type=Path, default=ROOT, help="where models/ and reports/ are; the repository")
    parser.add_argument(
        "--log-every", type=int, default=500, metavar="STEPS", help="between points of the training curve"
    )


def run(options: argparse.Namespace) -> None:
    """Train one experiment from ``params.yaml`` and write its weights."""
    name, device = options.experiment, options.device
    check_name("experiment", name, EXPERIMENTS)
    params = load(name, overrides(options.p))
    check_log_every(options.log_every)
    usable_device(device)
    check_writable(*outputs_of(name, options.outputs).values())
    if not isinstance(params, ImageParams) and device != "cpu":
        print(f"{name}: a toy always trains on the cpu, not on {device}", file=sys.stderr)
    keep_freed_memory()
    began = time.time()

    def save(model: Model, curve: list[dict]) -> None:
        save_trained(model, name, curve, options.outputs, device)

    _, curve = train(name, params, ROOT / ".checkpoints", device, options.log_every, save)
    print(f"{name}: K = {curve[-1].get('K_validation', curve[-1]['K']):.3f}, {time.time() - began:.0f} s")


def train(
    experiment: str,
    params,
    checkpoints: Path | None = None,
    device: str = "cpu",
    log_every: int = 100,
    save: Callable[[Model, list[dict]], None] | None = None,
) -> tuple[Model, list[dict]]:
    """Train ``experiment`` from nothing, or from the checkpoint that an interrupted run with the same identity left.

    checkpoints: directory for the checkpoint, one file a setting; none is written if None. A finished run leaves none behind.
    device: for image experiments; the toys always use one CPU thread, because their networks are too small to gain from more and
        the result then does not depend on how many there are.
    save: called with the model and its curve when training has finished. The checkpoint is removed only after it, so that a result
        which could not be written is not lost.
    Returns the model, on the CPU, and its training curve. Raises DataError if the images are not there, TrainingError if training
    cannot go on or ``save`` meets an OSError, ParameterError for a device that does not work.
    """
    check_name("experiment", experiment, MODELS)
    check_log_every(log_every)
    usable_device(device)
    kind = cast(type[ImageModel], MODELS[experiment])
    images = kind.data(params) if isinstance(params, ImageParams) else None
    key = fingerprint({"experiment": experiment, **dataclasses.asdict(params)})
    checkpoint = checkpoints and Path(checkpoints) / f"{experiment}-{key}.pt"
    if checkpoints:
        sweep(Path(checkpoints))
    options: dict[str, Any] = {"checkpoint": checkpoint, "identity": identity(experiment, params, images)}
    options |= {"label": experiment, "log_every": log_every}
    threads, starts = torch.get_num_threads(), getattr(params, "starts", 1)
    try:
        with enough_memory(experiment):
            if images is not None:
                model: Model = kind(params, images).to(device)
            else:
                torch.set_num_threads(1)
                build = cast(Callable[..., PointsModel], MODELS[experiment])
                model = best_start(build, params, options) if starts > 1 else MODELS[experiment](params)
            options |= model.fit_options()
            curve = fit(model, model.objective, model.groups(), params.train_steps, params.seed, **options)
    finally:
        torch.set_num_threads(threads)
    model.finish()
    model = model.cpu()
    if save is not None:
        try:
            save(model, curve)
        except OSError as error:
            kept = f"; {checkpoint} holds the finished training" if checkpoint and checkpoint.exists() else ""
            raise TrainingError(f"{experiment}: the result could not be written ({one_line(error)}){kept}") from None
    if checkpoint is not None:
        for path in (checkpoint, *(start_checkpoint(checkpoint, number) for number in range(starts))):
            if path.is_file():
                path.unlink(missing_ok=True)
    return model, curve


def identity(experiment: str, params, images: ImageSet | None, rooms: tuple[str, ...] = TRAINING_CODE) -> dict:
    """All that the weights of a training depend on: parameters, data, and the code of ``rooms`` with the libraries under it.

    How often the curve has a point, or a checkpoint is saved, changes no weight and is no part of it.
    """
    sums = hashlib.sha256()
    for image in () if images is None else images.train:
        sums.update(image.contiguous().numpy().data)
    data = None if images is None else sums.hexdigest()
    settings = {"experiment": experiment, "parameters": dataclasses.asdict(params), "data": data}
    return settings | surroundings(rooms)
