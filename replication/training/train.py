"""Train an experiment by name, and write what a training leaves."""

from __future__ import annotations

import argparse
import hashlib
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch

from nonequilibrium.data.images import ImageSet
from nonequilibrium.errors import ParameterError, TrainingError, one_line
from nonequilibrium.files import forget, say, sweep
from nonequilibrium.model.model import Model
from nonequilibrium.model.toys import PointsModel
from nonequilibrium.training.checkpoint import Checkpoint
from nonequilibrium.training.devices import (
    enough_memory,
    keep_freed_memory,
    prepared,
    usable_device,
)
from nonequilibrium.training.distributed import first, group, launched, own_device, world
from nonequilibrium.training.fit import Watch, check_log_every, fit
from replication.data.loading import training_data
from replication.files import ROOT, check_writable, fingerprint
from replication.settings.fields import check_name, overrides
from replication.settings.params import ImageParams
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load
from replication.stale import manifest
from replication.training.outputs import outputs_of, save_trained
from replication.training.starts import best_start, start_checkpoint


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium train``, which needs no notebook and no plotting library."""
    parser.add_argument("experiment", help="a section of params.yaml: " + ", ".join(EXPERIMENTS))
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda or cuda:N; toys always use the cpu"
    )
    parser.add_argument(
        "-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter to change"
    )
    parser.add_argument(
        "--outputs", type=Path, default=ROOT, help="where models/ and reports/ are; the repository"
    )
    parser.add_argument(
        "--log-every",
        type=int,
        default=500,
        metavar="STEPS",
        help="between points of the training curve",
    )


def run(options: argparse.Namespace) -> None:
    """Train one experiment from ``params.yaml`` and write its weights."""
    name, device = options.experiment, options.device
    check_name("experiment", name, EXPERIMENTS)
    params = load(name, overrides(options.p))
    check_log_every(options.log_every)
    usable_device(device)
    _check_processes(name, params)
    check_writable(*outputs_of(name, options.outputs).values())
    if not isinstance(params, ImageParams) and device != "cpu":
        say(f"{name}: a toy always trains on the cpu, not on {device}")
    keep_freed_memory()
    began = time.time()

    def save(model: Model, curve: list[dict]) -> None:
        save_trained(model, name, curve, options.outputs, device)

    _, curve = train(name, params, ROOT / ".checkpoints", device, options.log_every, save)
    if not first():
        return
    K = curve[-1].get("K_validation", curve[-1]["K"])
    print(f"{name}: K = {K:.3f}, {time.time() - began:.0f} s")


def train(
    experiment: str,
    params,
    checkpoints: Path | None = None,
    device: str = "cpu",
    log_every: int = 100,
    save: Callable[[Model, list[dict]], None] | None = None,
) -> tuple[Model, list[dict]]:
    """Train ``experiment`` from nothing, or from the checkpoint that an interrupted run with the
    same identity left.

    checkpoints: directory for the checkpoint, one file a setting; none is written if None. A
    finished run leaves none behind.
    device: for image experiments; the toys always use one CPU thread, because their networks are
        too small to gain from more and the result then does not depend on how many there are.
    save: called with the model and its curve when training has finished. The checkpoint is removed
        only after it, so that a result which could not be written is not lost.
    Under torchrun the processes share each batch of an image experiment, with ``cuda`` a GPU each.
    Their number changes a result by rounding alone, so any other number continues a checkpoint.
    Returns the model, on the CPU, and its training curve. Raises DataError if the images are not
    there, TrainingError if training cannot go on, a process is killed or ``save`` meets an OSError,
    ParameterError for a device or processes that do not work.
    """
    check_name("experiment", experiment, EXPERIMENTS)
    check_log_every(log_every)
    usable_device(device)
    _check_processes(experiment, params)
    key = fingerprint({"experiment": experiment, **vars(params)})
    checkpoint = checkpoints and Path(checkpoints) / f"{experiment}-{key}.pt"
    if checkpoints:
        sweep(Path(checkpoints))
    with group():
        model, curve = _fitted(experiment, params, checkpoint, device, log_every)
    if not first():
        return model, curve
    if save is not None:
        try:
            save(model, curve)
        except OSError as error:
            kept = (
                f"; {checkpoint} holds the finished training"
                if checkpoint and checkpoint.exists()
                else ""
            )
            raise TrainingError(
                f"{experiment}: the result could not be written ({one_line(error)}){kept}"
            ) from None
    if checkpoint is not None:
        starts = getattr(params, "starts", 1)
        for path in (
            checkpoint,
            *(start_checkpoint(checkpoint, number) for number in range(starts)),
        ):
            forget(path)
    return model, curve


def _check_processes(experiment: str, params) -> None:
    """Raises ParameterError unless the processes that torchrun started can train ``experiment``."""
    size = launched()[1]
    if size > 1 and not isinstance(params, ImageParams):
        raise ParameterError(f"WORLD_SIZE is {size}; {experiment} is a toy, of one process")
    if size > 1 and size > params.batch:
        raise ParameterError(f"WORLD_SIZE is {size}; a batch of {params.batch} has too few shares")


def _fitted(
    experiment: str, params, checkpoint: Path | None, device: str, log_every: int
) -> tuple[Model, list[dict]]:
    """The trained model, on the CPU, and its training curve: the part that all processes do."""
    its = EXPERIMENTS[experiment]
    images = training_data(params) if its.images else None
    kept = checkpoint and Checkpoint(checkpoint, identity(experiment, params, images))
    threads, device = torch.get_num_threads(), str(usable_device(own_device(device)))
    try:
        with enough_memory(experiment):
            if world() > 1:
                keep_freed_memory()
            if images is not None:
                model: Model = its.model(images, **vars(params)).to(device)
                if isinstance(model.images, torch.Tensor):
                    model.images = model.images.to(device)
            else:
                torch.set_num_threads(1)
                build = cast(Callable[..., PointsModel], its.model)
                several = getattr(params, "starts", 1) > 1
                watch = Watch(experiment, log_every)
                model = (
                    best_start(build, params, watch, kept) if several else its.model(**vars(params))
                )
            options = model.fit_options()
            watch = options["watch"]._replace(label=experiment, log_every=log_every)
            work = model, model.objective, model.groups(), params.train_steps, params.seed
            with prepared(model.network, device):
                curve = fit(*work, options["ascent"], watch, kept)
    finally:
        torch.set_num_threads(threads)
    model.finish()
    return model.cpu(), curve


def surroundings(*files: str) -> dict:
    """The part of an identity that is the same for all work: the code that training imports, and
    that of ``files``, and the versions of what computes.
    """
    libraries = {
        name: version(name).partition("+")[0] for name in ("torch", "numpy", "safetensors")
    }
    code = manifest([Path(__file__), *map(Path, files)])
    return {
        "code": hashlib.sha256(code.encode()).hexdigest(),
        "library versions": libraries | {"python": platform.python_version()},
    }


def identity(experiment: str, params, images: ImageSet | None, *files: str) -> dict:
    """All that the weights of a training depend on: parameters, data, code, and libraries.

    files: code that is imported beside that of training.

    How often the curve has a point, or a checkpoint is saved, changes no weight and is no part of
    it.
    """
    sums = hashlib.sha256()
    for image in () if images is None else images.train:
        sums.update(image.contiguous().numpy().data)
    data = None if images is None else sums.hexdigest()
    settings = {"experiment": experiment, "parameters": vars(params), "data": data}
    return settings | surroundings(*files)
