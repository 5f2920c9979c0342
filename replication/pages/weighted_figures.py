"""The figures of particles and of schedules in the theory notebook."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.pages.style import INK, LIMIT, OURS, PAPER, style


def weighted(found: dict) -> Figure:
    """What constant r draws with one particle and with many: a histogram, and the distance to the
    exact posterior against T.
    """
    style()
    figure, axes = plt.subplots(1, 3, figsize=(11.6, 4.2))
    pair = found["pair"]
    _histogram(axes[0], pair["histogram"])
    rows = pd.DataFrame(pair["rows"])
    rows = rows[rows["way"] == "constant r"]
    _against_T(axes[1], rows, "KL")
    own = rows.drop_duplicates("T")
    axes[1].plot(own["T"], own["own_KL"], ":", color=INK, label="exact weights (what T steps cost)")
    axes[1].set(yscale="log", ylabel="divergence from the exact\nposterior (nats), less is better")
    axes[1].set_title("Two pixels seen in noise")
    axes[1].set_ylim(top=300)  # room for the legend
    axes[1].legend(fontsize=8, loc="upper left")
    _against_T(axes[2], pd.DataFrame(found["bits"]["rows"]), "total_variation")
    axes[2].set(ylabel="total variation, less is better", ylim=(0, 1))
    axes[2].set_title("Heartbeat: bits 3 and 4 said to be one")
    axes[2].legend(fontsize=8)
    figure.suptitle(
        "The paper's recipe leaves Z̃ out. More steps mend little of that, particles that count Z̃ most of it"
    )
    figure.tight_layout()
    return figure


def _histogram(ax: Axes, its: dict) -> None:
    """The first pixel's exact posterior, and what one particle and many of them draw."""
    edges = np.array(its["edges"])
    x = np.linspace(edges[0], edges[-1], 300)
    exact = np.exp(-0.5 * ((x - its["mean"]) / its["sd"]) ** 2) / (its["sd"] * np.sqrt(2 * np.pi))
    ax.plot(x, exact, color=INK, lw=2, label="exact posterior")
    for n, share in its["particles"].items():
        label, colour = (
            ("the paper's recipe", PAPER) if n == "1" else (f"{n} particles, weighted", OURS)
        )
        ax.stairs(
            share,
            edges,
            color=colour,
            fill=n == "1",
            alpha=0.45 if n == "1" else 1.0,
            lw=1.6,
            label=label,
        )
    ax.set(xlabel="first pixel", ylabel="density", xlim=(-1.5, 3.5), ylim=(0, 1.1))
    ax.set_title("What is drawn")
    ax.legend(fontsize=8, loc="upper right")


def _against_T(ax: Axes, rows: pd.DataFrame, key: str) -> None:
    """One line a number of particles, the darker the more."""
    counts = sorted(rows["particles"].unique())
    for i, n in enumerate(counts):
        part = rows[rows["particles"] == n]
        colour = PAPER if n == 1 else OURS
        strength = 1.0 if n == 1 else 0.3 + 0.7 * i / (len(counts) - 1)
        label = "1 particle, the paper's recipe" if n == 1 else f"{n} particles"
        ax.plot(
            part["T"],
            part[key],
            "s-" if n == 1 else "o-",
            color=colour,
            alpha=strength,
            ms=5,
            label=label,
        )
    ax.set(xscale="log", xlabel="number of steps T", xticks=sorted(rows["T"].unique()))
    ax.set_xticklabels(sorted(rows["T"].unique()))
    ax.minorticks_off()


def schedules(found: dict) -> Figure:
    """Signal left at each t by schedules of the swiss roll and of the heartbeat, each with its K*."""
    style()
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.2))
    wide = {"lw": 6, "alpha": 0.35, "color": LIMIT}
    for its in found["swiss_roll"]:
        alpha_bar = np.cumprod(1 - np.array(its["beta"]))
        t = np.arange(1, len(alpha_bar) + 1)
        best = its["schedule"].startswith("after ascent")
        label = f"{its['schedule']}: K* = {its['K_star']:.2f}"
        axes[0].plot(t, np.log2(alpha_bar / (1 - alpha_bar)), **(wide if best else {}), label=label)
    axes[0].set(xlabel="t", ylabel="log₂ of the signal-to-noise ratio", title="Swiss roll, T = 40")
    axes[0].legend(fontsize=8)
    its = found["heartbeat"][-1]
    T = its["T"]
    names = {
        "inverse": "the paper's 1/(T−t+1)",
        "small_first": "the same after a small first step",
        "best": "after ascent on K*",
    }
    for name, label in names.items():
        look = wide if name == "best" else {"color": PAPER if name == "inverse" else OURS}
        beta = 1 - np.array(its[f"alpha_bar_{name}"])[1:] / np.array(its[f"alpha_bar_{name}"])[:-1]
        axes[1].plot(range(1, T + 1), beta, label=f"{label}: K* = {its[name]:.2f}", **look)
    axes[1].set(yscale="log")
    axes[1].set(
        xlabel="t",
        ylabel="β, noise of the step",
        title=f"Heartbeat, T = {T}: the first step must be small",
    )
    axes[1].legend(fontsize=8)
    figure.suptitle(
        "What a schedule is worth: the best bound K* that it allows, in bits (the heartbeat's true L is −2.32)"
    )
    figure.tight_layout()
    return figure
