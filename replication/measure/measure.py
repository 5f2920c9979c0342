"""Measure a trained experiment on held-out data by the module that the register names."""

import importlib
import os
from pathlib import Path

from nonequilibrium.distributed import group, world
from nonequilibrium.model.model import Model
from nonequilibrium.model.weights import load_weights
from nonequilibrium.training.devices import keep_freed_memory
from replication.measure.measured import Measured
from replication.settings import settings
from replication.settings.fields import check_name
from replication.settings.registry import EXPERIMENTS
from replication.training.train import threads, train


def trained(
    experiment: str, weights: Path | str | None = None, overrides: dict | None = None
) -> Model:
    """The model of ``experiment``, from ``weights`` or trained in seconds with ``overrides``."""
    check_name("experiment", experiment, EXPERIMENTS)
    if weights is not None:
        return load_weights(weights, experiment)
    with threads(1):  # more only slow the small networks of a quick run
        params = settings.quick(experiment, overrides)
        return train(experiment, params, log_every=params.train_steps)[0]


def measure(experiment: str, model: Model, evaluation) -> Measured:
    """Everything that the register names for ``experiment``, with the settings ``evaluation``.

    Under torchrun the processes share the work; the numbers do not depend on how many there are.
    """
    register = EXPERIMENTS[experiment]
    # Whole pictures are large; small images are worth several threads only where there are many.
    wide = register.images and (
        not register.measure.endswith(".images") or evaluation.n_heldout >= 1000
    )
    with group(), threads(cores() if wide else 1):
        keep_freed_memory()
        return importlib.import_module(register.measure).evaluate(experiment, model, evaluation)


def quick(experiment: str, overrides: dict | None = None) -> tuple[Model, Measured]:
    """Train for seconds and measure a little: what a notebook shows without weights."""
    model = trained(experiment, None, overrides)
    return model, measure(experiment, model, settings.evaluation(experiment, "quick"))


def cores() -> int:
    """Cores that this process may use, shared with the processes that it shares work with."""
    known = hasattr(os, "sched_getaffinity")
    total = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE") or world()) if world() > 1 else 1
    return max(1, total // here)
