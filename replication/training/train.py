"""Train an experiment by name, and write its weights, a card about them and its curve."""

import argparse
import dataclasses
import glob
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from replication.files import ROOT, check_writable, commit, fingerprint, to_json
from replication.settings.fields import check_name, overrides
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load
from replication.stale import manifest

MCGSM = "mcgsm"  # beside which dead leaves are measured
KNOWN = [*EXPERIMENTS, MCGSM]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``nonequilibrium train``, which needs no notebook and no plotting library."""
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
    if name == MCGSM and (options.p or device != "cpu"):
        raise ParameterError(f"{name} has the parameters of params.yaml alone, and the cpu")
    usable_device(device)
    free = free_name(name, params, options.outputs, options.force)
    paths = outputs_of(free, options.outputs)
    check_writable(*paths)
    if name == MCGSM:
        options.out = paths[0]
        return import_module("replication.measure.mixture").run(options)
    if not EXPERIMENTS[name].images and device != "cpu":
        say(f"{name}: a toy always trains on the cpu, not on {device}")
    keep_freed_memory()

    def save(model: Model, curve: list[dict]) -> None:
        save_trained(model, name, curve, options.outputs, device, free)

    _, curve = train(name, params, ROOT / ".checkpoints", device, options.log_every, save)
    if first():
        K, seconds = curve[-1].get("K_validation", curve[-1]["K"]), time.time() - began
        print(f"{paths[0]}: K = {K:.3f}, {seconds:.0f} s")


def outputs_of(name: str, outputs: Path) -> tuple[Path, Path, Path]:
    """The files of a training in ``outputs``: its weights, a card about them and its curve."""
    weights = outputs / "models" / f"{name}.safetensors"
    return weights, weights.with_suffix(".json"), outputs / f"reports/plots/{name}_training.csv"


def free_name(experiment: str, params, outputs: Path, force: bool = False) -> str:
    """The experiment's name, with a hash where weights of that name exist and must stay."""
    kept, usual = outputs_of(experiment, outputs)[0], params == load(experiment)
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
    kind, where = "K_training", "last batches"
    if declared.images:
        kind, where = "K_validation", "on training images that were set aside"
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
        kind: last.get("K_validation", last["K"]),
        "unit": f"{declared.unit}, {where}",
        "params": vars(model.params),
    }
    table = [[*curve[0]], *([*row.values()] for row in curve)]
    text = "".join(f"{','.join(map(str, row))}\n" for row in table)
    contents = raw, to_json(card).encode(), text.encode()
    save_contents(dict(zip(outputs_of(name or experiment, outputs), contents, strict=True)))


def train(
    experiment: str,
    params,
    checkpoints: Path | None = None,
    device: str = "cpu",
    log_every: int = 100,
    save: Callable[[Model, list[dict]], None] | None = None,
) -> tuple[Model, list[dict]]:
    """The trained model of ``experiment``, on the CPU, and its curve.

    An interrupted run of the same ``identity`` continues from its file in ``checkpoints``, which is
    removed only after ``save``, so that no result is lost. Under torchrun the first process saves.
    """
    check_name("experiment", experiment, EXPERIMENTS)
    check_log_every(log_every)
    usable_device(device)
    share, size = params.batch if EXPERIMENTS[experiment].images else 1, launched()[1]
    if size > share:
        work = f"a batch of {share}" if EXPERIMENTS[experiment].images else "a toy"
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
        message = f"{experiment}: the result could not be written ({one_line(error)})"
        kept = f"; {checkpoint} holds the training" if checkpoint and checkpoint.exists() else ""
        raise TrainingError(message + kept) from None
    if checkpoint:
        for path in (checkpoint, *checkpoint.parent.glob(f"{checkpoint.stem}.start*.pt")):
            if path.is_file():  # its folder may be a file, where none could be saved
                path.unlink(missing_ok=True)
            sweep(path.parent, 0.0, glob.escape(path.name))
    return model, curve


def fitted(
    experiment: str, params, path: Path | None, device: str, log_every: int
) -> tuple[Model, list[dict]]:
    """The trained model and its curve, in each process alike. path: of the checkpoint."""
    declared = EXPERIMENTS[experiment]
    if device == "cuda" and world() > 1:  # a GPU for each of the processes on a machine
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    device = str(usable_device(device))
    images = training_data(params) if declared.images else None
    checkpoint = Checkpoint(path, identity(experiment, params, images)) if path else None
    # A toy's result must not depend on the number of threads.
    number = 1 if images is None else torch.get_num_threads()
    with devices.enough_memory(experiment), threads(number):
        if images is not None:
            model = declared.model(images, **vars(params)).to(device)
            if isinstance(model.images, torch.Tensor):
                model.images = model.images.to(device)
        elif getattr(params, "starts", 1) > 1:
            model = best_start(declared.model, params, Watch(experiment, log_every), checkpoint)
        else:
            model = declared.model(**vars(params))
        how = model.fit_options()
        watch = how["watch"]._replace(label=experiment, log_every=log_every)
        work = model, model.objective, model.groups(), params.train_steps, params.seed
        with devices.prepared(model.network, device):
            curve = fit(*work, how["ascent"], watch, checkpoint)
    model.finish()
    return model.cpu(), curve


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch's threads inside the ``with`` block."""
    former = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def best_start(
    build: Callable[..., PointsModel], params, watch: Watch, checkpoint: Checkpoint | None
) -> PointsModel:
    """The best of ``params.starts`` short trainings, as few units have many local optima."""
    models = []
    for start in range(params.starts):
        model, own = build(start=start, **vars(params)), checkpoint
        if checkpoint is not None:
            path = checkpoint.path.with_suffix(f".start{start}.pt")
            own = checkpoint._replace(path=path, identity=checkpoint.identity | {"start": start})
        label = f"{watch.label}, start {start + 1} of {params.starts}"
        work = model, model.objective, model.groups(), params.start_steps, params.seed
        fit(*work, watch=watch._replace(label=label), checkpoint=own)
        models.append(model)
    return max(models, key=PointsModel.score)


def identity(experiment: str, params, images: ImageSet | Pictures | None) -> dict:
    """All that the weights of a training depend on: parameters, data, code and libraries."""
    sums, code = hashlib.sha256(), EXPERIMENTS[experiment].code
    for image in () if images is None else images.train:
        sums.update(image.contiguous().numpy().data)
    modules = __name__, code["model"], code.get("law", "")
    libraries = {k: version(k).partition("+")[0] for k in ("torch", "numpy", "safetensors")}
    return {
        "experiment": experiment,
        "parameters": vars(params),
        "data": None if images is None else sums.hexdigest(),
        "code": hashlib.sha256(manifest(modules).encode()).hexdigest(),
        "library versions": libraries | {"python": platform.python_version()},
    }
