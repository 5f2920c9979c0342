"""What the stages left in reports/: metrics, curves and records, read in one place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

TITLES = {
    "swiss_roll": "Swiss roll, the paper's 16 units",
    "swiss_roll_wide": "Swiss roll, wide network",
    "heartbeat": "Binary heartbeat",
}
IMAGES = {
    "mnist": "MNIST, two dense networks (the paper's path)",
    "mnist_sharp": "MNIST, two dense networks, 1×1 layers at all noise",
    "mnist_conv": "MNIST, convolutional variant",
    "cifar10_cpu": "CIFAR-10, trained on two CPU cores",
    "cifar10_modern": "CIFAR-10, a U-Net",
}
MODERN = {"cifar10_modern"}  # networks that are no part of the replication
DATA_OF = {name: name.split("_")[0] for name in IMAGES}
METRICS = {"cifar10_cpu": "cifar10"}  # files in reports/metrics that are named by what is measured, not by the training
MINUS = str.maketrans("-", "−")


@dataclass
class Findings:
    """What is in reports/: metrics by experiment, seeds, provenance by stage, and what is missing.

    absent: data sets that are not on this machine, so that the numbers about them are those committed with the code.
    """

    folder: Path
    metrics: dict = field(default_factory=dict)
    seeds: dict = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    images: dict = field(default_factory=dict)
    choices: dict = field(default_factory=dict)
    absent: list = field(default_factory=list)


def _read(path: Path) -> dict:
    """The JSON in ``path``, an empty mapping if there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def load(folder: Path) -> Findings:
    """Read everything under ``folder`` (the reports directory); a file that is not there is named in ``missing``."""
    measured = {
        name: _read(folder / "metrics" / f"{METRICS.get(name, name)}.json") for name in [*TITLES, *IMAGES, "seeds"]
    }
    choices = {name: _read(folder / "metrics" / f"{name}_choices.json") for name in IMAGES}
    return Findings(
        folder,
        metrics={name: measured[name] for name in TITLES if measured[name]},
        seeds=measured["seeds"],
        provenance={path.stem: _read(path) for path in sorted((folder / "provenance").glob("*.json"))},
        missing=[title for name, title in TITLES.items() if not measured[name]],
        images={name: measured[name] for name in IMAGES if measured[name]},
        choices={name: rows for name, rows in choices.items() if rows},
        absent=[
            data
            for data in dict.fromkeys(DATA_OF.values())
            if not _read(folder / "data" / f"{data}.json").get("present", False)
        ],
    )


def number(value: float, digits: int) -> str:
    """The value with so many digits after the point, a true minus sign before it."""
    return f"{value:.{digits}f}".translate(MINUS)


def gap_digits(name: str) -> int:
    """Digits after the point with which K* − K of a toy is printed: its error must show."""
    return 6 if name == "heartbeat" else 3


def training_curves(found: Findings) -> dict[str, pd.DataFrame]:
    """Training curves of the toys by title: columns step, K."""
    return {TITLES[name]: curve for name in TITLES if (curve := training_curve(found, name)) is not None}


def training_curve(found: Findings, name: str) -> pd.DataFrame | None:
    """The training curve of one experiment, None if it was not trained."""
    path = found.folder / "plots" / f"{name}_training.csv"
    return pd.read_csv(path) if path.exists() else None
