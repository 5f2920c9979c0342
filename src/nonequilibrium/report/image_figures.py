"""Figures of the image experiments, one function each. Every function draws what it is given and returns a matplotlib Figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from nonequilibrium.report.figures import LIMIT, MUTED, OURS, PAPER, style


def _as_picture(image: Tensor) -> np.ndarray:
    """(c, h, w) uint8 to what imshow takes."""
    array = image.numpy()
    return array[0] if len(array) == 1 else array.transpose(1, 2, 0)


def _show(ax, image: Tensor) -> None:
    limit = int(image.max()) if image.max() <= 16 else 255  # scikit-learn's digits have 17 grey levels
    ax.imshow(_as_picture(image), cmap="gray", vmin=0, vmax=limit, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def image_grid(images: Tensor, columns: int) -> Figure:
    """Images (n, c, h, w) uint8 in rows of ``columns``, edge to edge with a thin gap."""
    style()
    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.full((c, rows * (h + 1) - 1, columns * (w + 1) - 1), int(images.max()), dtype=torch.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + 1), (i % columns) * (w + 1)
        sheet[:, y : y + h, x : x + w] = image
    figure, ax = plt.subplots(figsize=(0.62 * columns, 0.62 * rows))
    _show(ax, sheet)
    figure.tight_layout(pad=0.2)
    return figure


def image_strips(strips: dict[str, Tensor]) -> Figure:
    """One labelled row a kind, one column an image. strips: {label: images (n, c, h, w) uint8}."""
    style()
    n = len(next(iter(strips.values())))
    figure, axes = plt.subplots(len(strips), n, figsize=(0.8 * n + 2.0, 0.82 * len(strips)), squeeze=False)
    for row, (label, images) in zip(axes, strips.items(), strict=True):
        for ax, image in zip(row, images, strict=True):
            _show(ax, image)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    return figure


def parzen_bars(table: pd.DataFrame) -> Figure:
    """Table 2's MNIST column. table: columns samples, bits, ±, source (paper or ours)."""
    style()
    figure, ax = plt.subplots(figsize=(7.6, 0.42 * len(table) + 1.2))
    colours = [PAPER if source == "paper" else OURS for source in table["source"]]
    ax.barh(table["samples"], table["bits"], xerr=table["±"], color=colours, capsize=3)
    for y, value in enumerate(table["bits"]):
        ax.text(max(value, 0) + 6, y + 0.02, f"{value:.0f}", va="center", fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="Parzen window estimate (bits); red: the paper's table, blue: measured here")
    figure.tight_layout()
    return figure


def K_against_time(curves: dict[str, pd.DataFrame], levels: dict[str, float], floor: float) -> Figure:
    """K on images set aside against minutes of training. curves: {label: columns seconds, K_validation}; levels: lines across."""
    style()
    figure, ax = plt.subplots(figsize=(7.2, 4))
    for label, curve in curves.items():
        ax.plot(curve["seconds"] / 60, curve["K_validation"], label=label, lw=1.6, marker=".")
    for (label, value), colour in zip(levels.items(), [PAPER, LIMIT, MUTED], strict=False):
        ax.axhline(value, color=colour, ls="--", label=label)
    ax.set(xlabel="minutes of training", ylabel="K (bits/pixel), images set aside", ylim=(floor, None))
    ax.legend(loc="lower right", fontsize=9)
    figure.tight_layout()
    return figure


def choices_bars(rows: list[dict], paper: float | None = None) -> Figure:
    """K of short trainings that differ in one thing from the first row. rows: {"choice", "K"}, bits per pixel."""
    style()
    figure, ax = plt.subplots(figsize=(7.6, 0.38 * len(rows) + 1.2))
    values = [row["K"] for row in rows]
    ax.barh([row["choice"] for row in rows], values, color=[OURS] + [MUTED] * (len(rows) - 1))
    for y, value in enumerate(values):
        ax.text(max(value, 0) + 0.05, y, f"{value:.2f}", va="center", fontsize=9)
    if paper is not None:
        ax.axvline(paper, color=PAPER, ls="--", lw=1)
        ax.text(paper, -0.7, f"paper, {paper}", color=PAPER, ha="center", fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel="K (bits/pixel) after equally many short steps")
    figure.tight_layout()
    return figure


def quality_dots(tables: dict[str, pd.DataFrame]) -> Figure:
    """PSNR and SSIM with standard errors, a column of panels a task. tables: {task: columns method, PSNR, SSIM and their _se}."""
    style()
    figure, axes = plt.subplots(2, len(tables), figsize=(4.4 * len(tables), 5.2), squeeze=False)
    for column, (task, table) in zip(axes.T, tables.items(), strict=True):
        for ax, measure in zip(column, ["PSNR", "SSIM"], strict=True):
            for _, row in table.iterrows():
                colour = OURS if "sample" in row["method"] else MUTED
                ax.errorbar(row[measure], row["method"], xerr=row[f"{measure}_se"], fmt="o", color=colour, capsize=3)
            ax.set(xlabel=measure + (" (dB)" if measure == "PSNR" else ""))
            ax.grid(axis="y", alpha=0.3)
            ax.invert_yaxis()
        column[0].set_title(task, fontsize=11)
    figure.tight_layout()
    return figure
