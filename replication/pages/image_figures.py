"""Figures of the image experiments, one function each. Every function draws what it is given and
returns a matplotlib Figure.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from replication.pages.style import LIMIT, MUTED, OURS, PAPER, coloured, style


def _as_picture(image: Tensor) -> np.ndarray:
    """(c, h, w) uint8 to what imshow takes."""
    array = image.numpy()
    return array[0] if len(array) == 1 else array.transpose(1, 2, 0)


def _show(ax, image: Tensor, white: int) -> None:
    ax.imshow(_as_picture(image), cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def image_grid(
    images: Tensor,
    columns: int,
    title: str = "True samples of the model, in the order drawn, none chosen",
    white: int = 255,
) -> Figure:
    """Images (n, c, h, w) uint8 in rows of ``columns``, edge to edge with a thin gap. white: the
    grey level that is drawn white.
    """
    style()
    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = torch.full((c, rows * (h + 1) - 1, columns * (w + 1) - 1), white, dtype=torch.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + 1), (i % columns) * (w + 1)
        sheet[:, y : y + h, x : x + w] = image
    figure, ax = plt.subplots(figsize=(0.62 * columns, 0.62 * rows))
    _show(ax, sheet, white)
    ax.set_title(textwrap.fill(title, 11 * columns), fontsize=9)
    figure.tight_layout(pad=0.2)
    return figure


def image_strips(
    strips: dict[str, Tensor],
    title: str = "One image a column, what was done to it a row",
    white: int = 255,
) -> Figure:
    """One labelled row a kind, one column an image. strips: {label: images (n, c, h, w) uint8};
    white: as in ``image_grid``.
    """
    style()
    n = len(next(iter(strips.values())))
    figure, axes = plt.subplots(
        len(strips), n, figsize=(0.82 * n, 0.82 * len(strips)), squeeze=False
    )
    for row, (label, images) in zip(axes, strips.items(), strict=True):
        for ax, image in zip(row, images, strict=True):
            _show(ax, image, white)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    axes[0, 0].set_title(textwrap.fill(title, 11 * n + 10), fontsize=10)
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.04, hspace=0.04)  # names and title stand outside
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
    ax.set(xlabel="Parzen window estimate (bits)")
    ax.set_title("Red: the paper's table; blue: measured here")
    figure.tight_layout()
    return figure


def K_against_time(
    curves: dict[str, pd.DataFrame], levels: dict[str, float], floor: float
) -> Figure:
    """K on images set aside against minutes of training. curves: {label: columns seconds,
    K_validation}; levels: lines across.
    """
    style()
    figure, ax = plt.subplots(figsize=(7.2, 4))
    for label, curve in curves.items():
        ax.plot(curve["seconds"] / 60, curve["K_validation"], label=label, lw=1.6, marker=".")
    for (label, value), colour in coloured(levels.items(), (PAPER, LIMIT, MUTED)):
        ax.axhline(value, color=colour, ls="--", label=label)
    ax.set(
        xlabel="minutes of training", ylabel="K (bits/pixel), images set aside", ylim=(floor, None)
    )
    ax.set_title("How soon K passes the numbers of others (dashed)")
    ax.legend(loc="lower right", fontsize=9)
    figure.tight_layout()
    return figure


MEASURES = {"PSNR": "PSNR (dB)", "SSIM": "SSIM", "spectrum": "spectrum, off by (dB)"}
DOTS = "Blue: the model's samples and their means; grey: other methods. Further right is better"


def quality_dots(tables: dict[str, pd.DataFrame], title: str = DOTS) -> Figure:
    """How well tasks are done, with standard errors: a row of panels a task, a column for each of
    MEASURES that the tables have.

    tables: {task: columns method, PSNR, SSIM, maybe spectrum, and their _se}.
    """
    style()
    measures = [
        measure for measure in MEASURES if all(measure in table for table in tables.values())
    ]
    heights = [len(table) + 2.5 for table in tables.values()]
    size = (4.3 * len(measures), 0.28 * sum(heights) + 0.5)
    figure, axes = plt.subplots(
        len(tables),
        len(measures),
        figsize=size,
        squeeze=False,
        sharey="row",
        gridspec_kw={"height_ratios": heights},
    )
    for row, (task, table) in zip(axes, tables.items(), strict=True):
        for ax, measure in zip(row, measures, strict=True):
            for y, (_, entry) in enumerate(table.iterrows()):
                colour = OURS if learned(entry["method"]) else MUTED
                ax.errorbar(
                    entry[measure], y, xerr=entry[f"{measure}_se"], fmt="o", color=colour, capsize=3
                )
            ax.set_xlabel(MEASURES[measure], fontsize=10)
            ax.tick_params(labelsize=9)
            ax.grid(axis="y", alpha=0.3)
        row[0].set(
            yticks=range(len(table)),
            yticklabels=table["method"],
            title=task,
            ylim=(len(table) - 0.5, -0.5),
        )
    figure.suptitle(title)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / size[1]))
    return figure


def learned(method: str) -> bool:
    """Whether a row of the table is the model's."""
    return "sample" in method or "model" in method or "particles" in method
