"""The figures of the theory notebook: the average (9), the brackets (24), posteriors beside exact
ones.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.pages.style import INK, LIMIT, MUTED, OURS, PAPER, style

NAMES = {"heartbeat": "Binary heartbeat", "swiss_roll": "Swiss roll"}
WAYS = {
    "constant r": ("constant r, the paper's", PAPER, "s-"),
    "replacement": ("replacement", MUTED, "^-"),
    "through the model, solve = 0": ("through the model, no solving", LIMIT, "v:"),
    "through the model, solve = 2": ("2 steps of solving", OURS, "o:"),
    "through the model, solve = 8": ("8 steps", OURS, "o--"),
    "through the model, solve = 40": ("solved to the last digit", OURS, "o-"),
    "annealed r": ("annealed r", MUTED, ""),
    "r through the templates": ("r through the templates", OURS, ""),
}


def jarzynski(theory: dict) -> Figure:
    """(9) with n trajectories between K* and log p(x^0) on both toys, and the distance to L in
    chains of T steps. Bits.
    """
    style()
    figure, axes = plt.subplots(1, 3, figsize=(11.6, 4.2))
    for ax, (name, its) in zip(axes[:2], theory["jarzynski"].items(), strict=True):
        rows = pd.DataFrame(its["averages"])
        ax.plot(rows["trajectories"], rows["mean"], "o-", color=OURS, label="average (9)")
        ax.fill_between(
            rows["trajectories"],
            rows["low"],
            rows["high"],
            color=OURS,
            alpha=0.2,
            lw=0,
            label="95 %",
        )
        ax.axhline(its["L_true"], color=INK, ls=":", label="true L")
        if "log_p" in its:
            ax.axhline(its["log_p"], color=LIMIT, label="log p(x⁰), exact")
        ax.axhline(its["K_star"], color=PAPER, ls="--", label="K*")
        ax.set_xscale("log", base=4)
        ax.set(xlabel="trajectories n", xticks=rows["trajectories"], ylabel="bits")
        ax.set_xticklabels(rows["trajectories"])
        ax.set_title(f"{NAMES[name]}, T = {its['T']}")
        ax.legend(fontsize=8)
    _distance_to_L(axes[2], pd.DataFrame(theory["chains"]))
    figure.suptitle(
        "A few trajectories lift the estimate from K to log p; with more steps one comes nearer"
    )
    figure.tight_layout()
    return figure


def _distance_to_L(ax: Axes, rows: pd.DataFrame) -> None:
    """Bits below L against T: K* and log p(x^0), exact, and the averages of one trajectory and of
    sixteen.
    """
    for key, label, colour, line in (
        ("K_star", "K*, exact", PAPER, "--"),
        ("log_p", "log p(x⁰), exact", LIMIT, "-"),
    ):
        ax.plot(rows["T"], rows["L_true"] - rows[key], line, color=colour, label=label)
    for n, marker in ((1, "o"), (16, "D")):
        y = rows["L_true"] - rows[f"mean_{n}"]
        label = "one trajectory" if n == 1 else f"{n} trajectories"
        ax.errorbar(rows["T"], y, yerr=rows[f"se_{n}"], fmt=marker, ms=5, color=OURS, label=label)
    ax.set(xscale="log", yscale="log", xlabel="number of steps T", ylabel="bits below the true L")
    ax.set_title("Heartbeat: slower is tighter")
    ax.legend(fontsize=8)


def entropy_brackets(theory: dict) -> Figure:
    """(24) at each t above its lower bound, the true entropy inside, and its width against T. Bits."""
    style()
    figure, axes = plt.subplots(1, 3, figsize=(11.6, 4.2))
    for ax, (name, its) in zip(axes[:2], theory["entropy"].items(), strict=True):
        t, lower = np.array(its["t"]), np.array(its["lower"])
        width, truth = np.array(its["upper"]) - lower, np.array(its["truth"]) - lower
        ax.fill_between(t, 0, width, color=MUTED, alpha=0.35, lw=0, label="between the bounds (24)")
        error = its.get("truth_se")
        label = "true entropy" + (", exact" if error is None else ", with its error")
        ax.errorbar(t, truth, yerr=error, color=OURS, lw=1.6, label=label)
        ax.set(
            xlabel="t",
            ylabel="bits above the lower bound",
            ylim=(0, 1.1 * max(width.max(), truth.max())),
        )
        ax.set_title(NAMES[name])
        ax.legend(fontsize=8, loc="upper right")
    rows = pd.DataFrame(theory["widths"])
    axes[2].plot(rows["T"], rows["largest"], "o-", color=OURS, label="widest step")
    axes[2].plot(rows["T"], rows["mean"], "o--", color=OURS, label="mean over t")
    axes[2].plot(
        rows["T"], rows["mean"].iloc[0] * rows["T"].iloc[0] / rows["T"], ":", color=INK, label="1/T"
    )
    axes[2].set(
        xscale="log", yscale="log", xlabel="number of steps T", ylabel="width of the bracket (bits)"
    )
    axes[2].set_title("Heartbeat: more steps close it")
    axes[2].legend(fontsize=8)
    figure.suptitle(
        "The true entropy of a reverse step lies between its two bounds, and more steps close the bracket"
    )
    figure.tight_layout()
    return figure


def posteriors(found: dict) -> Figure:
    """How far samples are from exact posteriors: of a Gaussian row by the divergence, of the
    heartbeat by total variation.
    """
    style()
    rows = pd.DataFrame(found["row"])
    correlations = sorted(rows["correlation"].unique())
    figure = plt.figure(figsize=(10.4, 8.4))
    rows_of_panels = figure.add_gridspec(2, 1, height_ratios=(1.1, 1), hspace=0.55)
    above = rows_of_panels[0].subgridspec(1, len(correlations))
    first = None
    for i, correlation in enumerate(correlations):
        ax = figure.add_subplot(above[i], sharey=first)
        first = first or ax
        for way, part in rows[rows["correlation"] == correlation].groupby("way", sort=False):
            label, colour, line = WAYS[str(way)]
            shown, small = _at_most(part)
            ax.plot(part["T"], shown, line[1:], color=colour)
            ax.plot(part["T"][~small], shown[~small], line[0], color=colour, ms=5)
            ax.plot(part["T"][small], shown[small], "v", color=colour, ms=8, mfc="white", zorder=3)
            ax.plot([], [], line, color=colour, ms=5, label=label)
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="number of steps T",
            xticks=sorted(rows["T"].unique()),
        )
        ax.set_xticklabels(sorted(rows["T"].unique()))
        ax.minorticks_off()
        ax.set_title(f"correlation {correlation:g}")
        if ax is first:
            ax.set_ylabel("divergence from the exact\nposterior (nats), less is better")
    assert first is not None
    first.plot(
        [], [], "v", color=OURS, ms=8, mfc="white", label="open: at most this (95 %), by draws"
    )
    first.legend(fontsize=8, ncol=4, loc="upper left", bbox_to_anchor=(-0.02, -0.2))
    _bits(figure.add_subplot(rows_of_panels[1]), pd.DataFrame(found["bits"]))
    figure.suptitle(
        "Looking through the model brings samples to the exact posterior; the paper's constant r does not",
        y=0.95,
    )
    return figure


def _at_most(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Divergences as a logarithmic axis can show them, and which of them are upper ends of 95 %
    intervals.

    An estimate from draws may be negative, or within its error of zero; it then says only that the
    divergence is not larger.
    """
    error = rows["KL_se"].fillna(0.0)
    small = rows["KL"] < 2 * error
    return rows["KL"].where(~small, rows["KL"].clip(lower=0) + 2 * error), small


def _bits(ax: Axes, rows: pd.DataFrame) -> None:
    """Shares of the five heartbeats among samples given evidence, beside the exact posterior."""
    groups = list(rows.groupby("evidence", sort=False))
    bars = ["exact", *rows["way"].unique()]
    for g, (_, part) in enumerate(groups):
        series = [part["exact"].iloc[0], *part["share"]]
        for b, (way, share) in enumerate(zip(bars, series, strict=True)):
            label, colour, _ = WAYS.get(way, ("exact posterior", INK, ""))
            at = 6.5 * g + np.arange(5) + 0.2 * (b - 1.5)
            ax.bar(at, share, 0.2, color=colour, label=label if g == 0 else None)
    ax.set(
        xticks=[6.5 * g + k for g in range(len(groups)) for k in range(5)],
        ylabel="share of the samples",
    )
    ax.set_xticklabels([str(k + 1) for _ in groups for k in range(5)])
    for g, (evidence, _) in enumerate(groups):
        text = str(evidence).replace(", ", ",\n", 1) if len(str(evidence)) > 30 else str(evidence)
        ax.text(6.5 * g - 0.5, 1.0, text, fontsize=9, va="top", transform=ax.get_xaxis_transform())
    ax.set_ylim(0, 1.0)
    ax.set_xlabel("heartbeat whose ones begin in bin 1 to 5")
    ax.legend(fontsize=8, ncol=4, loc="upper left", bbox_to_anchor=(0, -0.2))
