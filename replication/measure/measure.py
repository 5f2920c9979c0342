"""Measure a trained experiment on held-out data: its bound K, its errors, and whatever else the
register names for it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nonequilibrium.model.model import Model
from nonequilibrium.model.weights import load_weights
from nonequilibrium.training.devices import keep_freed_memory
from nonequilibrium.training.distributed import group, here
from replication.measure.measured import Measured
from replication.settings import settings
from replication.settings.fields import check_name
from replication.settings.registry import EXPERIMENTS
from replication.training.train import train


def trained(
    experiment: str, weights: Path | str | None = None, overrides: dict | None = None
) -> Model:
    """The model of ``experiment``: from ``weights``, or trained here for seconds (``overrides``
    change its parameters).
    """
    check_name("experiment", experiment, EXPERIMENTS)
    if weights is not None:
        return load_weights(weights, experiment)
    with threads(1):  # more only slow the small networks of a quick run
        params = settings.quick(experiment, overrides)
        return train(experiment, params, log_every=params.train_steps)[
            0
        ]  # no curve is kept, whose points take time


def measure(experiment: str, model: Model, evaluation) -> Measured:
    """Everything that the register names for ``experiment``, measured on ``model`` with the
    settings ``evaluation``.

    Under torchrun the processes share the work; their number does not change the numbers.
    """
    with group():
        return _measured(experiment, model, evaluation)


def _measured(experiment: str, model: Model, evaluation) -> Measured:
    keep_freed_memory()
    its = EXPERIMENTS[experiment]
    room = importlib.import_module(its.measure)
    with threads(cores() if its.images and evaluation.n_heldout >= 1000 else 1):
        return room.measured(experiment, model, evaluation)


def quick(experiment: str, overrides: dict | None = None) -> tuple[Model, Measured]:
    """Train for seconds and measure a little: what a notebook shows that was opened as it is."""
    model = trained(experiment, None, overrides)
    return model, measure(experiment, model, settings.evaluation(experiment, "quick"))


def cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has; those who share
    work share them too.
    """
    every = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, every // here())


@contextmanager
def threads(number: int) -> Iterator[None]:
    """PyTorch's threads inside the ``with`` block."""
    former = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(former)
