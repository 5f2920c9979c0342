"""The best of several short trainings: few units have many local optima."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nonequilibrium.model.toys import PointsModel
from nonequilibrium.training.checkpoint import Checkpoint
from nonequilibrium.training.fit import Watch, fit


def best_start(
    build: Callable[..., PointsModel], params, watch: Watch, checkpoint: Checkpoint | None
) -> PointsModel:
    """The best of ``params.starts`` short trainings.

    build: makes the model from its parameters and the start. checkpoint: of the whole training; a
    start has its own beside it.
    """
    models = []
    for start in range(params.starts):
        model, own = build(start=start, **vars(params)), checkpoint
        if checkpoint is not None:
            path, identity = start_checkpoint(checkpoint.path, start), checkpoint.identity
            own = checkpoint._replace(path=path, identity=identity | {"start": start})
        label = f"{watch.label}, start {start + 1} of {params.starts}"
        work = model, model.objective, model.groups(), params.start_steps, params.seed
        fit(*work, watch=watch._replace(label=label), checkpoint=own)
        models.append(model)
    return max(models, key=PointsModel.score)


def start_checkpoint(checkpoint: Path, start: int) -> Path:
    """Where ``start`` of a run with this checkpoint has its own."""
    return checkpoint.with_suffix(f".start{start}.pt")
