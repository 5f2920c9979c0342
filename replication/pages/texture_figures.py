"""Figures of pictures of any size: a hole and what it is filled with. Every function returns a
matplotlib Figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from replication.pages.image_figures import _show
from replication.pages.style import MUTED, OURS, style

if TYPE_CHECKING:
    from replication.measure.measured import Measured


COLUMNS = 3


def deviation(samples: Tensor) -> Tensor:
    """The standard deviation of samples (n, c, h, w) uint8 in grey levels, averaged over channels:
    (h, w).
    """
    return samples.float().std(0).mean(0)


def panels_of(found: Measured, number: int) -> dict[str, Tensor]:
    """Figure 5's panels for one picture: {name: (c, h, w) uint8, or (h, w) float for the spread in
    grey levels}.
    """
    arrays, name = found.arrays, f"figure_5_{number}"
    truth, noisy = arrays[name]
    constant, through = arrays[f"{name}_constant"], arrays[f"{name}_through"]
    panels = {"(a) held out": truth, "(b) its centre replaced by noise": noisy}
    panels |= {f"(c) sample {k}, constant r": sample for k, sample in enumerate(constant[:3], 1)}
    panels[f"mean of {len(constant)}, constant r"] = (
        constant.double().mean(0).round().to(torch.uint8)
    )
    panels["spread, constant r (grey levels)"] = deviation(constant)
    panels |= {f"sample {k}, through the model": sample for k, sample in enumerate(through[:2], 1)}
    panels |= dict(zip(found.numbers["others"], arrays[f"{name}_others"], strict=True))
    return panels


def figure_5(panels: dict[str, Tensor], title: str) -> Figure:
    """Panels side by side under their names: pictures (c, h, w) uint8, or (h, w) floats with a
    scale beside them.
    """
    style()
    rows = -(-len(panels) // COLUMNS)
    h, w = next(iter(panels.values())).shape[-2:]
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(3.6 * COLUMNS, (3.6 * h / w + 0.35) * rows + 0.4), squeeze=False
    )
    for ax, (name, panel) in zip(axes.flat, panels.items(), strict=False):
        if panel.dim() == 2:
            drawn = ax.imshow(panel.numpy(), cmap="magma", vmin=0, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            figure.colorbar(drawn, ax=ax, fraction=0.036, pad=0.02)
        else:
            _show(ax, panel, 255)
        ax.set_title(name, fontsize=9)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    return figure


MEASURES = {"PSNR": "PSNR (dB), more is better", "spectrum": "spectrum (dB), less is better"}
MEASURES["gradients"] = "gradients (levels), less is better"


def statistics(table: pd.DataFrame) -> Figure:
    """How near each way of filling comes, a panel a measure, a dot a picture. table: columns
    picture, method and ``MEASURES``.
    """
    style()
    methods = list(dict.fromkeys(table["method"]))
    figure, axes = plt.subplots(
        1, len(MEASURES), figsize=(10.5, 0.32 * len(methods) + 1.2), sharey=True
    )
    for ax, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        for y, method in enumerate(methods):
            values = table.loc[table["method"] == method, measure]
            ax.plot(values, [y] * len(values), "o", color=OURS if "sample" in method else MUTED)
        ax.set_xlabel(label, fontsize=9)
        ax.grid(axis="y", alpha=0.3)
    axes[0].set(yticks=range(len(methods)), yticklabels=methods, ylim=(len(methods) - 0.5, -0.5))
    figure.suptitle(
        "The hole against the truth. Blue: the model's samples and their means; grey: others",
        fontsize=10,
    )
    figure.tight_layout()
    return figure
