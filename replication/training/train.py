"""Train an experiment by name, and write what a training leaves."""

from __future__ import annotations

import argparse
import hashlib
import platform
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from nonequilibrium.data.images import ImageSet, Pictures
from nonequilibrium.distributed import first, group, launched, own_device
from nonequilibrium.errors import ParameterError, TrainingError, one_line
from nonequilibrium.files import forget, say, sweep
from nonequilibrium.model.model import Model
from nonequilibrium.training.checkpoint import Checkpoint
from nonequilibrium.training.devices import (
    enough_memory,
    keep_freed_memory,
    prepared,
    usable_device,
)
from nonequilibrium.training.fit import Watch, check_log_every, fit
from replication.data.loading import training_data
from replication.files import ROOT, check_writable, fingerprint
from replication.settings.fields import check_name, overrides
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load
from replication.stale import file_of, manifest
from replication.training.outputs import free_name, outputs_of, save_trained
from replication.training.starts import best_start, start_checkpoint

MCGSM = "mcgsm"  # beside which dead leaves are measured
KNOWN = [*EXPERIMENTS, MCGSM]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium train``, which needs no notebook and no plotting library."""
    add = parser.add_argument
    add("experiment", help=", ".join(KNOWN))
    add("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter to change")
    add("--device", default="cpu", help="cpu, cuda or cuda:N; toys always use the cpu")
    add("--outputs", type=Path, default=ROOT, help="where models/ and reports/ are")
    add("--log-every", type=int, default=500, metavar="STEPS", help="between points of the curve")
    add("--force", action="store_true", help="replace weights, by the parameters of params.yaml")


def run(options: argparse.Namespace) -> None:
    """Train one experiment and write its weights."""
    name, device, began = options.experiment, options.device, time.time()
    check_name("experiment", name, KNOWN)
    params = load(name, overrides(options.p))
    usable_device(device)
    free = free_name(name, params, options.outputs, options.force)
    paths = outputs_of(free, options.outputs)
    check_writable(*paths.values())
    if name == MCGSM:
        if options.p:
            raise ParameterError(f"{name} has the parameters of params.yaml alone")
        options.out = paths["weights"]
        return import_module("replication.measure.mixture").run(options)
    if not EXPERIMENTS[name].images and device != "cpu":
        say(f"{name}: a toy always trains on the cpu, not on {device}")
    keep_freed_memory()

    def save(model: Model, curve: list[dict]) -> None:
        save_trained(model, name, curve, options.outputs, device, free)

    _, curve = train(name, params, ROOT / ".checkpoints", device, options.log_every, save)
    if first():
        K, seconds = curve[-1].get("K_validation", curve[-1]["K"]), time.time() - began
        print(f"{paths['weights']}: K = {K:.3f}, {seconds:.0f} s")


def train(
    experiment: str,
    params,
    checkpoints: Path | None = None,
    device: str = "cpu",
    log_every: int = 100,
    save: Callable[[Model, list[dict]], None] | None = None,
) -> tuple[Model, list[dict]]:
    """Train ``experiment``, or go on from the checkpoint of an interrupted run of one identity.

    checkpoints: the folder of the checkpoint, which a finished run removes; None: there is none.
    device: for images; a toy uses one CPU thread, which its small network cannot use up, so that
        the result does not depend on how many there are.
    save: called with the model and its curve before the checkpoint is removed, so that a result
        which cannot be written is not lost.
    Under torchrun the processes share each batch of images, and the first saves. Returns the model,
    on the CPU, and its training curve. Raises DataError without the images, ParameterError for a
    device that does not work, TrainingError if training or ``save`` cannot go on.
    """
    check_name("experiment", experiment, EXPERIMENTS)
    check_log_every(log_every)
    usable_device(device)
    its, size = EXPERIMENTS[experiment], launched()[1]
    if size > (params.batch if its.images else 1):
        work = f"a batch of {params.batch}" if its.images else "a toy"
        raise ParameterError(f"{experiment}: {work} has no share for each of {size} processes")
    key = fingerprint({"experiment": experiment, **vars(params)})
    checkpoint = checkpoints and Path(checkpoints) / f"{experiment}-{key}.pt"
    if checkpoints:
        sweep(Path(checkpoints))
    with group():
        model, curve = fitted(experiment, params, checkpoint, device, log_every)
    if not first():
        return model, curve
    try:
        if save is not None:
            save(model, curve)
    except OSError as error:
        told = f"{experiment}: the result could not be written ({one_line(error)})"
        kept = checkpoint and checkpoint.exists()
        raise TrainingError(f"{told}; {checkpoint} holds the training" if kept else told) from None
    if checkpoint:
        starts = (start_checkpoint(checkpoint, k) for k in range(getattr(params, "starts", 1)))
        for path in (checkpoint, *starts):
            forget(path)
    return model, curve


def fitted(
    experiment: str, params, checkpoint: Path | None, device: str, log_every: int
) -> tuple[Model, list[dict]]:
    """The trained model, on the CPU, and its training curve: the work of each process."""
    its, threads = EXPERIMENTS[experiment], torch.get_num_threads()
    device = str(usable_device(own_device(device)))
    images = training_data(params) if its.images else None
    kept = (
        None if checkpoint is None else Checkpoint(checkpoint, identity(experiment, params, images))
    )
    watch = Watch(experiment, log_every)
    try:
        with enough_memory(experiment):
            if images is not None:
                model = its.model(images, **vars(params)).to(device)
                if isinstance(model.images, torch.Tensor):
                    model.images = model.images.to(device)
            else:
                torch.set_num_threads(1)
                one = getattr(params, "starts", 1) == 1
                starts = its.model, params, watch, kept
                model = its.model(**vars(params)) if one else best_start(*starts)
            how = model.fit_options()
            watch = how["watch"]._replace(label=experiment, log_every=log_every)
            work = model, model.objective, model.groups(), params.train_steps, params.seed
            with prepared(model.network, device):
                curve = fit(*work, how["ascent"], watch, kept)
    finally:
        torch.set_num_threads(threads)
    model.finish()
    return model.cpu(), curve


def identity(experiment: str, params, images: ImageSet | Pictures | None) -> dict:
    """All that the weights of a training depend on: parameters, data, code and libraries. Points of
    the curve and checkpoints change no weight.
    """
    sums, code = hashlib.sha256(), EXPERIMENTS[experiment].code
    for image in () if images is None else images.train:
        sums.update(image.contiguous().numpy().data)
    files = [Path(__file__), *(file_of(code[part]) for part in ("model", "law") if part in code)]
    names = ("torch", "numpy", "safetensors")
    libraries = {name: version(name).partition("+")[0] for name in names}
    return {
        "experiment": experiment,
        "parameters": vars(params),
        "data": None if images is None else sums.hexdigest(),
        "code": hashlib.sha256(manifest(filter(None, files)).encode()).hexdigest(),
        "library versions": libraries | {"python": platform.python_version()},
    }
