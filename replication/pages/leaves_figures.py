"""Figures of dead leaves. Every function returns a matplotlib Figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from replication.pages.style import MUTED, OURS, style

if TYPE_CHECKING:
    from replication.measure.measured import Measured

GREYS = 2.2  # units of sigma around the mean that are drawn from black to white


def pictures(images: dict[str, Tensor], title: str) -> Figure:
    """Three images (size, size) in units of sigma by what they are, side by side on one grey scale."""
    style()
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.1))
    for ax, letter, (name, image) in zip(axes, "abc", images.items(), strict=True):
        ax.imshow(image.numpy(), cmap="gray", vmin=-GREYS, vmax=GREYS, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"({letter}) {name}", fontsize=10)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    return figure


def scores(found: Measured) -> Figure:
    """K of each held-out image against what MCGSM gives it; above the line the model is better."""
    style()
    model, mcgsm = found.arrays["scores"]
    figure, ax = plt.subplots(figsize=(4.6, 4.4))
    ax.plot(mcgsm, model, "o", color=OURS, ms=4, alpha=0.7)
    ends = [
        min(float(mcgsm.min()), float(model.min())),
        max(float(mcgsm.max()), float(model.max())),
    ]
    ax.plot(ends, ends, color=MUTED, lw=1)
    ax.set(
        xlabel="MCGSM, bits per pixel",
        ylabel="K of the model, bits per pixel",
        title="A dot is a held-out image; its K has the error of few steps t",
    )
    figure.tight_layout()
    return figure
