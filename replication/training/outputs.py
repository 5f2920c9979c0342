"""What a training leaves on disk: weights, a card about them, and the curve."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

from nonequilibrium.distributed import first
from nonequilibrium.files import save_contents
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.model import Model
from nonequilibrium.model.weights import weights_bytes
from nonequilibrium.training.devices import hardware
from replication.files import commit, fingerprint
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load


def free_name(experiment: str, params, outputs: Path, force: bool = False) -> str:
    """Under what name the weights of a training go to ``outputs``.

    Weights that are there stay, and others get the fingerprint of their parameters in their name,
    unless ``force`` replaces them by those of params.yaml.
    """
    kept, usual = outputs_of(experiment, outputs)["weights"], params == load(experiment)
    if not kept.is_file() or (force and usual):
        return experiment
    name = f"{experiment}-{fingerprint(dataclasses.asdict(params))}"
    why = "--force replaces them" if usual else "these parameters are not those of params.yaml"
    if first():
        print(f"{kept} stays, and the new weights are called {name}; {why}", file=sys.stderr)
    return name


def outputs_of(name: str, outputs: Path) -> dict[str, Path]:
    """The files of a training in ``outputs``: its weights, a card about them and its curve."""
    weights = outputs / "models" / f"{name}.safetensors"
    curve = outputs / "reports" / "plots" / f"{name}_training.csv"
    return {"weights": weights, "card": weights.with_suffix(".json"), "curve": curve}


def save_trained(
    model: Model, experiment: str, curve: list[dict], outputs: Path, device: str, name: str = ""
) -> None:
    """Write the files of a training, all of them or none. name: where not the experiment's."""
    raw, last, its = weights_bytes(model, experiment), curve[-1], EXPERIMENTS[experiment]
    lines = [",".join(curve[0]), *(",".join(map(str, row.values())) for row in curve)]
    if isinstance(model, ImageModel):
        K, where = {"K_validation": last["K_validation"]}, "on training images that were set aside"
    else:
        K, where = {"K_training": last["K"]}, "last batches"
    card = {
        "experiment": experiment,
        "data": its.data,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "commit": commit(),
        "device": device,
        "hardware": hardware(device),
        "steps": last["step"],
        "seconds": last.get("seconds"),  # of a toy none, whose card is the same at each training
        **K,
        "unit": f"{its.unit}, {where}",
        "params": vars(model.params),
    }
    texts = {"card": json.dumps(card, indent=2), "curve": "\n".join(lines)}
    paths = outputs_of(name or experiment, outputs)
    files = {paths[part]: f"{text}\n".encode() for part, text in texts.items()}
    save_contents({paths["weights"]: raw} | files)
