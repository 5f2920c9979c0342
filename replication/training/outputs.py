"""What a training leaves on disk: weights, a card about them, and the curve."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nonequilibrium.files import save_contents
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.model import Model
from nonequilibrium.model.weights import weights_bytes
from nonequilibrium.training.devices import hardware
from replication.files import commit
from replication.settings.registry import EXPERIMENTS


def outputs_of(experiment: str, outputs: Path) -> dict[str, Path]:
    """The files that a training run leaves in ``outputs``: weights, a card about them and the
    training curve.
    """
    weights = outputs / "models" / f"{experiment}.safetensors"
    curve = outputs / "reports" / "plots" / f"{experiment}_training.csv"
    return {"weights": weights, "card": weights.with_suffix(".json"), "curve": curve}


def save_trained(
    model: Model, experiment: str, curve: list[dict], outputs: Path, device: str
) -> None:
    """Write what a training run leaves, all of it or nothing. outputs: the folder that has models/
    and reports/.
    """
    raw = weights_bytes(model, experiment)
    lines = [",".join(curve[0])] + [",".join(str(value) for value in row.values()) for row in curve]
    images = isinstance(model, ImageModel)
    card = {
        "experiment": experiment,
        "data": EXPERIMENTS[experiment].data,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "commit": commit(),
        "device": device,
        "hardware": hardware(device),
        "steps": curve[-1]["step"],
        "seconds": curve[-1].get(
            "seconds"
        ),  # a toy's curve and card are the same whenever it is trained
        **(
            {"K_validation": curve[-1]["K_validation"]}
            if images
            else {"K_training": curve[-1]["K"]}
        ),
        "unit": EXPERIMENTS[experiment].unit
        + (", on training images that were set aside" if images else ", last batches"),
        "params": vars(model.params),
    }
    paths, text = outputs_of(experiment, outputs), "\n".join(lines) + "\n"
    card_text = json.dumps(card, indent=2) + "\n"
    save_contents(
        {paths["weights"]: raw, paths["card"]: card_text.encode(), paths["curve"]: text.encode()}
    )
