"""Train an experiment by name, and write its weights, a card about them and its curve."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from nonequilibrium.data.images import ImageSet, Pictures
from nonequilibrium.distributed import first, group, launched, world
from nonequilibrium.errors import ParameterError, TrainingError, one_line
from nonequilibrium.files import save_contents, say, sweep
from nonequilibrium.model.model import Model
from nonequilibrium.model.toys import PointsModel
from nonequilibrium.model.weights import weights_bytes
from nonequilibrium.training import devices
from nonequilibrium.training.checkpoint import Checkpoint
from nonequilibrium.training.devices import keep_freed_memory, usable_device
from nonequilibrium.training.fit import Watch, check_log_every, fit
from replication.data.textures import training_data
from replication.files import ROOT, check_writable, commit, fingerprint
from replication.settings.fields import check_name, overrides
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load
from replication.stale import file_of, manifest

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


def outputs_of(name: str, outputs: Path) -> dict[str, Path]:
    """The files of a training in ``outputs``: its weights, a card about them and its curve."""
    weights = outputs / "models" / f"{name}.safetensors"
    curve = outputs / "reports" / "plots" / f"{name}_training.csv"
    return {"weights": weights, "card": weights.with_suffix(".json"), "curve": curve}


def free_name(experiment: str, params, outputs: Path, force: bool = False) -> str:
    """The name of a training's weights in ``outputs``: weights that are there stay, and others are
    named by their parameters too, unless ``force`` replaces them by those of params.yaml.
    """
    kept, usual = outputs_of(experiment, outputs)["weights"], params == load(experiment)
    if not kept.is_file() or (force and usual):
        return experiment
    name = f"{experiment}-{fingerprint(dataclasses.asdict(params))}"
    why = "--force replaces them" if usual else "these parameters are not those of params.yaml"
    if first():
        print(f"{kept} stays, and the new weights are called {name}; {why}", file=sys.stderr)
    return name


def save_trained(
    model: Model, experiment: str, curve: list[dict], outputs: Path, device: str, name: str = ""
) -> None:
    """Write the files of a training, all of them or none. name: where not the experiment's."""
    # The name of a CPU does not say how many cores were free.
    gpu = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None
    raw, last, declared = weights_bytes(model, experiment), curve[-1], EXPERIMENTS[experiment]
    lines = [",".join(curve[0]), *(",".join(map(str, row.values())) for row in curve)]
    K, where = {"K_training": last["K"]}, "last batches"
    if declared.images:
        K, where = {"K_validation": last["K_validation"]}, "on training images that were set aside"
    card = {
        "experiment": experiment,
        "data": declared.data,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "commit": commit(),
        "device": device,
        "hardware": gpu,
        "steps": last["step"],
        "seconds": last.get("seconds"),  # of a toy none, whose card is the same at each training
        **K,
        "unit": f"{declared.unit}, {where}",
        "params": vars(model.params),
    }
    paths = outputs_of(name or experiment, outputs)
    texts = {paths["card"]: json.dumps(card, indent=2), paths["curve"]: "\n".join(lines)}
    files = {path: f"{text}\n".encode() for path, text in texts.items()}
    save_contents({paths["weights"]: raw} | files)


def train(
    experiment: str,
    params,
    checkpoints: Path | None = None,
    device: str = "cpu",
    log_every: int = 100,
    save: Callable[[Model, list[dict]], None] | None = None,
) -> tuple[Model, list[dict]]:
    """The trained model of ``experiment``, on the CPU, and its curve; goes on from the checkpoint
    of an interrupted run of the same ``identity``.

    checkpoints: the folder of the checkpoint, which a finished run removes. device: for images.
    save: called with the model and its curve before the checkpoint is removed, so that a result
    which cannot be written is not lost. Under torchrun the processes share each batch of images,
    and the first saves. Raises DataError, ParameterError, TrainingError.
    """
    check_name("experiment", experiment, EXPERIMENTS)
    check_log_every(log_every)
    usable_device(device)
    images, size = EXPERIMENTS[experiment].images, launched()[1]
    share, work = (params.batch, f"a batch of {params.batch}") if images else (1, "a toy")
    if size > share:
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
        for path in (checkpoint, *start_checkpoints(checkpoint, params)):
            if path.is_file():
                path.unlink(missing_ok=True)
            sweep(path.parent, 0.0, glob.escape(path.name))
    return model, curve


def fitted(
    experiment: str, params, path: Path | None, device: str, log_every: int
) -> tuple[Model, list[dict]]:
    """The trained model and its curve: the work of each process. path: of the checkpoint."""
    declared, threads = EXPERIMENTS[experiment], torch.get_num_threads()
    if device == "cuda" and world() > 1:  # a GPU for each of the processes on a machine
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    device = str(usable_device(device))
    images = training_data(params) if declared.images else None
    checkpoint = Checkpoint(path, identity(experiment, params, images)) if path else None
    watch = Watch(experiment, log_every)
    try:
        with devices.enough_memory(experiment):
            if images is not None:
                model = declared.model(images, **vars(params)).to(device)
                if isinstance(model.images, torch.Tensor):
                    model.images = model.images.to(device)
            else:
                torch.set_num_threads(1)  # so that the result does not depend on their number
                several = getattr(params, "starts", 1) > 1
                toy = declared.model, params, watch, checkpoint
                model = best_start(*toy) if several else declared.model(**vars(params))
            how = model.fit_options()
            watch = how["watch"]._replace(label=experiment, log_every=log_every)
            work = model, model.objective, model.groups(), params.train_steps, params.seed
            with devices.prepared(model.network, device):
                curve = fit(*work, how["ascent"], watch, checkpoint)
    finally:
        torch.set_num_threads(threads)
    model.finish()
    return model.cpu(), curve


def best_start(
    build: Callable[..., PointsModel], params, watch: Watch, checkpoint: Checkpoint | None
) -> PointsModel:
    """The best of ``params.starts`` short trainings, as few units have many local optima."""
    models = []
    for start in range(params.starts):
        model, own = build(start=start, **vars(params)), checkpoint
        if checkpoint is not None:
            path = start_checkpoints(checkpoint.path, params)[start]
            own = checkpoint._replace(path=path, identity=checkpoint.identity | {"start": start})
        label = f"{watch.label}, start {start + 1} of {params.starts}"
        work = model, model.objective, model.groups(), params.start_steps, params.seed
        fit(*work, watch=watch._replace(label=label), checkpoint=own)
        models.append(model)
    return max(models, key=PointsModel.score)


def start_checkpoints(checkpoint: Path, params) -> list[Path]:
    """Where the starts of a run with this checkpoint have their own."""
    return [checkpoint.with_suffix(f".start{k}.pt") for k in range(getattr(params, "starts", 1))]


def identity(experiment: str, params, images: ImageSet | Pictures | None) -> dict:
    """All that the weights of a training depend on: parameters, data, code and libraries. Points of
    the curve and checkpoints change no weight.
    """
    sums, code = hashlib.sha256(), EXPERIMENTS[experiment].code
    for image in () if images is None else images.train:
        sums.update(image.contiguous().numpy().data)
    files = [Path(__file__), *(file_of(code[part]) for part in ("model", "law") if part in code)]
    libraries = {k: version(k).partition("+")[0] for k in ("torch", "numpy", "safetensors")}
    return {
        "experiment": experiment,
        "parameters": vars(params),
        "data": None if images is None else sums.hexdigest(),
        "code": hashlib.sha256(manifest(filter(None, files)).encode()).hexdigest(),
        "library versions": libraries | {"python": platform.python_version()},
    }
