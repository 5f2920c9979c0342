"""Trained weights on disk: written atomically with the parameters they were made by, read with every check that is cheap."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from nonequilibrium.errors import Refusal
from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.experiment.registry import MODELS
from nonequilibrium.fields import ParameterError
from nonequilibrium.files import commit, save_atomically, sha256
from nonequilibrium.params import ImageParams, check


class WeightsError(Refusal, ValueError):
    """Weights that are missing or belong to something else."""


def save_weights(model: nn.Module, experiment: str, path: Path) -> None:
    """Write the model's weights with its experiment and parameters to ``path`` (safetensors), atomically."""
    # One entry: safetensors writes several in no fixed order, and equal weights must give equal bytes.
    about = {"experiment": experiment, "params": dataclasses.asdict(model.params)}
    metadata = {"nonequilibrium": json.dumps(about, sort_keys=True)}
    state = model.stored() if isinstance(model, ImageModel) else model.state_dict()
    tensors = {name: value.contiguous() for name, value in state.items()}
    save_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def save_trained(model: nn.Module, experiment: str, curve: list[dict], outputs: Path, device: str) -> None:
    """Write what a training run leaves: weights, a card about them (images only) and the training curve.

    outputs: the folder that has models/ (images) or weights/ (toys), and reports/.
    """
    images = isinstance(model.params, ImageParams)
    weights = outputs / ("models" if images else "weights") / f"{experiment}.safetensors"
    save_weights(model, experiment, weights)
    if images:
        card = {
            "experiment": experiment,
            "data": model.params.data,
            "sha256": sha256(weights),
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "commit": commit(),
            "device": device,
            "seconds": curve[-1]["seconds"],
            "K_validation": curve[-1]["K_validation"],
            "unit": "bits per pixel, on training images that were set aside",
            "params": dataclasses.asdict(model.params),
        }
        save_atomically(weights.with_suffix(".json"), lambda path: path.write_text(json.dumps(card, indent=2) + "\n"))
    lines = [",".join(curve[0])] + [",".join(str(value) for value in row.values()) for row in curve]
    plot = outputs / "reports" / "plots" / f"{experiment}_training.csv"
    save_atomically(plot, lambda path: path.write_text("\n".join(lines) + "\n"))


def load_weights(path: Path | str, experiment: str) -> nn.Module:
    """The trained model of ``experiment`` from ``path``; raises WeightsError if the file is missing or foreign."""
    path = Path(path)
    if not path.is_file():
        stage = "train" if MODELS.get(experiment) is ImageModel else "train_toy"
        raise WeightsError(f"there are no weights at {path}; train them with `dvc repro --force {stage}@{experiment}`")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("nonequilibrium", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from None
    if about.get("experiment") != experiment:
        raise WeightsError(f"{path} holds weights of {about.get('experiment')!r}, not of {experiment!r}")
    try:
        model = MODELS[experiment](check(experiment, about["params"]))
    except ParameterError as error:
        raise WeightsError(f"{path} was made with other parameters: {error}") from None
    model.finish()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the network of its own parameters: {error}") from None
    return model.eval()
