"""Figures of the benchmarks, one function each."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from replication.pages.growth import Growth
from replication.pages.style import LIMIT, MUTED, OURS, PAPER, coloured, style

SPACINGS = {
    "even": (PAPER, "s", "evenly spaced"),
    "optimal": (OURS, "o", "spaced so that K loses least"),
}
SIZES = {
    "T": "steps T",
    "pixels": "pixels of an image",
    "examples": "images",
    "parameters": "parameters",
}


def thinning(its: dict) -> Figure:
    """What K loses, and the PSNR of posterior samples, against the number of steps. its: "K" and
    maybe "denoising", rows.
    """
    style()
    shown = [name for name in ("K", "denoising") if its.get(name)]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.8 * len(shown), 3.8), squeeze=False)
    for ax, name in zip(axes[0], shown, strict=True):
        value, error = ("loss", "loss_se") if name == "K" else ("PSNR", "PSNR_se")
        for spacing, (colour, marker, label) in SPACINGS.items():
            rows = [row for row in its[name] if row["spacing"] == spacing]
            ax.errorbar(
                [row["steps"] for row in rows],
                [row[value] for row in rows],
                yerr=[row[error] for row in rows],
                color=colour,
                marker=marker,
                capsize=2,
                label=label,
            )
        for row in its[name]:
            if row["spacing"] == "all":
                ax.axhline(row[value], color=LIMIT, ls=":", label=f"all {row['steps']} steps")
        steps = sorted({row["steps"] for row in its[name]})
        ax.set(xscale="log", xlabel="steps of the chain", xticks=steps, xticklabels=steps)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set(ylabel="K lost (bits/pixel)" if name == "K" else "PSNR at SNR 1 (dB)")
        ax.legend(fontsize=9)
    figure.suptitle(
        "Fewer steps: what K loses, and how near posterior samples come"
        if len(shown) > 1
        else "What K loses"
    )
    figure.tight_layout()
    return figure


def growth(work: dict) -> Figure:
    """Seconds and memory against each size, with the fitted powers. work: {work: {size: {"rows",
    "fits"}}}.
    """
    style()
    figure, axes = plt.subplots(2, len(SIZES), figsize=(12.5, 6), squeeze=False)
    colours = dict(coloured(work, (OURS, PAPER, LIMIT, MUTED)))
    for row, (cost, unit, scale) in enumerate(
        [("seconds", "seconds", 1), ("bytes", "memory (MiB)", 2**20)]
    ):
        for ax, (factor, label) in zip(axes[row], SIZES.items(), strict=True):
            for which, colour in colours.items():
                if factor not in work[which]:
                    continue
                its = work[which][factor]
                sizes = np.array([one["size"] for one in its["rows"]], dtype=float)
                law = Growth(**its["fits"][cost])
                ax.plot(sizes, [one[cost] / scale for one in its["rows"]], "o", ms=5, color=colour)
                ax.plot(
                    sizes,
                    [law.cost(n) / scale for n in sizes],
                    color=colour,
                    lw=1,
                    label=f"{which}: {law.exponent:.2f}",
                )
            ax.set(xscale="log", yscale="log", xlabel=label)
            ax.xaxis.set_minor_formatter(NullFormatter())
            low, high = ax.get_ylim()
            ax.set_ylim(low, high * (high / low) ** 0.6)  # room for the legend above the lines
            ax.legend(fontsize=8, title="exponent", title_fontsize=8, loc="upper left")
        axes[row, 0].set_ylabel(unit)
    figure.suptitle("How time (above) and memory (below) grow")
    figure.tight_layout()
    return figure


def half_hour(curves: dict) -> Figure:
    """One line a training. curves: {training: table with minutes and bits_per_dim}."""
    style()
    figure, ax = plt.subplots(figsize=(6.6, 3.8))
    for (training, its), colour in coloured(curves.items()):
        ax.plot(its["minutes"], its["bits_per_dim"], color=colour, label=training, marker=".")
    ax.set(
        xlabel="minutes of training on two cores", ylabel="bits/dim, less is better", ylim=(3, 10)
    )
    ax.set_title("CIFAR-10 from nothing, on images set aside from training")
    ax.legend(frameon=False, fontsize=9)
    return figure
