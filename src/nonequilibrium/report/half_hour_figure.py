"""What half an hour on two cores buys: bits/dim of CIFAR-10 against minutes of training, two libraries and this package."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from nonequilibrium.bound.bound import bits_per_dim
from nonequilibrium.report.style import INK, LIMIT, OURS, PAPER, style

THEIRS = {"denoising_diffusion_pytorch": "denoising-diffusion-pytorch", "diffusers": "diffusers"}
MINE = {"cifar10": "the paper's network, trained on K", "cifar10_unet": "our U-Net, trained on K"}
MINUTES = 30


def curves(reports: Path) -> dict[str, pd.DataFrame]:
    """{label: minutes, bits_per_dim} of every training in ``reports``, on images set aside from training.

    Ours are the curves that trainings left, up to MINUTES. A training of the libraries that was not run has no curve.
    """
    found = {}
    for name, label in MINE.items():
        metrics = json.loads((reports / "metrics" / f"{name}.json").read_text(encoding="utf-8"))
        curve = pd.read_csv(reports / "plots" / f"{name}_training.csv")
        cost = [bits_per_dim(K, 3, metrics["sigma"]) for K in curve["K_validation"]]
        table = pd.DataFrame({"minutes": curve["seconds"] / 60, "bits_per_dim": cost})
        found[label] = table[table["minutes"] <= MINUTES]
    for name, label in THEIRS.items():
        path = reports / "benchmarks" / "half_hour" / f"{name}.json"
        if path.is_file():
            entries = json.loads(path.read_text(encoding="utf-8"))["curve"]
            found[label] = pd.DataFrame(entries)[["minutes", "bits_per_dim"]]
    return found


def half_hour(its: dict[str, pd.DataFrame]) -> Figure:
    """One line a training. its: what ``curves`` gives."""
    style()
    figure, ax = plt.subplots(figsize=(6.4, 3.6))
    for (label, curve), colour in zip(its.items(), (OURS, LIMIT, PAPER, INK), strict=False):
        ax.plot(curve["minutes"], curve["bits_per_dim"], color=colour, label=label, marker=".")
    ax.set(xlabel="minutes of training on two cores", ylabel="bits/dim", xscale="log", ylim=(3, 9))
    ax.set_title("CIFAR-10 from nothing: bits/dim of images set aside from training")
    ax.legend(frameon=False, fontsize=9)
    return figure
