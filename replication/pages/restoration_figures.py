"""Figures of posteriors on images: digits by class, what n trajectories add to K, and how well
images are restored.
"""

from __future__ import annotations

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from replication.pages.style import LIMIT, MUTED, OURS, PAPER, coloured, style


def class_rows(panels: dict[str, Tensor], columns: int, white: int = 255) -> Figure:
    """Panels of ten rows of digits, a row a class. panels: {title: (10 · each, c, h, w) uint8};
    columns: digits of a row, at most.
    """
    style()
    columns = min(columns, *(len(images) // 10 for images in panels.values()))
    size = (0.34 * columns * len(panels) + 1.2, 3.9)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False)
    for ax, (title, images) in zip(axes[0], panels.items(), strict=True):
        shown = images.unflatten(0, (10, -1))[:, :columns, 0]
        shown = torch.nn.functional.pad(
            shown, (0, 1, 0, 1), value=white
        )  # a thin line between digits
        rows, across, h, w = shown.shape
        sheet = shown.permute(0, 2, 1, 3).reshape(rows * h, across * w)
        ax.imshow(sheet, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
        ax.set_title(title, fontsize=9)
        ax.set(xticks=[], yticks=[(k + 0.5) * h for k in range(10)])
        ax.set_yticklabels(range(10))
        ax.tick_params(length=0, labelsize=8)
        for spine in ax.spines.values():
            spine.set_visible(False)
    figure.tight_layout()
    return figure


def averages(found: dict[str, dict], titles: dict[str, str]) -> Figure:
    """What averages (9) of n trajectories add to K, with 95 % intervals. found: {experiment:
    ``likelihoods``}; titles: of each.
    """
    style()
    figure, ax = plt.subplots(figsize=(6.2, 3.6))
    for (name, its), colour in coloured(found.items(), (OURS, PAPER, LIMIT)):
        rows = pd.DataFrame(its["rows"])
        below, above = rows["gain"] - rows["low"], rows["high"] - rows["gain"]
        label = f"{titles[name]}, {its['images']} images, {its['T']} steps"
        ax.errorbar(
            rows["trajectories"],
            rows["gain"],
            [below, above],
            fmt="o-",
            capsize=3,
            color=colour,
            label=label,
        )
    ax.set(xscale="log", xlabel="trajectories n", ylabel="gain over K (bits/pixel)")
    ax.axhline(0, color=MUTED, lw=1)
    ax.legend(fontsize=8)
    figure.tight_layout()
    return figure


def row(images: dict[str, Tensor]) -> Figure:
    """Named images (c, h, w) uint8 beside each other, each under its name."""
    style()
    figure, axes = plt.subplots(1, len(images), figsize=(1.3 * len(images), 1.55))
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        ax.imshow(image.movedim(0, -1), interpolation="nearest")
        ax.set_title(name, fontsize=9)
        ax.axis("off")
    figure.tight_layout()
    return figure


def chosen(entry: dict, pictures: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Strips of one task, those of ``names`` that there are; pictures: (strips, n, c, h, w) in the
    order of entry["strips"].
    """
    found = dict(zip(entry["strips"], pictures, strict=True))
    return {name: found[name] for name in names if name in found}


def joined(strips: list[dict[str, Tensor]], most: int = 8) -> dict[str, Tensor]:
    """Strips of several tasks as one mapping; each has ``most`` images at most, and all have
    equally many.
    """
    n = min(most, *(len(images) for each in strips for images in each.values()))
    return {name: torch.as_tensor(images[:n]) for each in strips for name, images in each.items()}
