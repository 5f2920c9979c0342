"""The best of several short trainings: few units have many local optima."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nonequilibrium.model.toys import PointsModel
from nonequilibrium.training.fit import fit


def best_start(build: Callable[..., PointsModel], params, options: dict) -> PointsModel:
    """The best of ``params.starts`` short trainings.

    build: makes the model from its parameters and the start. options: of ``fit``; a checkpoint gets
    the start in its name.
    """
    models = []
    for start in range(params.starts):
        model, of_start = build(start=start, **vars(params)), dict(options)
        if options["checkpoint"] is not None:
            of_start["checkpoint"] = start_checkpoint(options["checkpoint"], start)
        of_start["identity"] = (options.get("identity") or {}) | {"start": start}
        of_start["label"] += f", start {start + 1} of {params.starts}"
        fit(model, model.objective, model.groups(), params.start_steps, params.seed, **of_start)
        models.append(model)
    return max(models, key=PointsModel.score)


def start_checkpoint(checkpoint: Path, start: int) -> Path:
    """Where ``start`` of a run with this checkpoint has its own."""
    return checkpoint.with_suffix(f".start{start}.pt")
