"""The project's figures, one function each. Every function draws what it is given and returns a
matplotlib Figure.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from replication.pages.roll_figures import swiss_roll, swiss_roll_animation
from replication.pages.style import INK, LIMIT, MUTED, OURS, PAPER, coloured, save, style

__all__ = [
    "INK",
    "LIMIT",
    "MUTED",
    "OURS",
    "PAPER",
    "save",
    "style",
    "swiss_roll",
    "swiss_roll_animation",
]


def heartbeat(trajectory: dict[int, Tensor], n_rows: int = 60) -> Figure:
    """Figure 2: samples as rows at t = T, T/2 and 0 of the reverse chain, shifted so that each
    pulse starts in bin 1.

    trajectory: {t: bits (n, 20)}; a row is shifted by the offset of its own sample at t = 0.
    """
    style()
    T = max(trajectory)
    last = trajectory[0][:n_rows].numpy().astype(int)
    classes = last.reshape(len(last), -1, 5).sum(1)
    shift = classes.argmax(1)
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 5.2), sharey=True)
    for ax, (t, name) in zip(
        axes, [(T, "$t = T$"), (T // 2, "$t = T/2$"), (0, "$t = 0$")], strict=True
    ):
        rows = trajectory[t][:n_rows].numpy()
        rows = np.stack([np.roll(row, -s) for row, s in zip(rows, shift, strict=True)])
        ax.imshow(rows, cmap="Greys", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        ax.set(title=f"{name} = {t}" if t else name, xlabel="bin (shifted)", xticks=[0, 5, 10, 15])
        ax.set_xticklabels([1, 6, 11, 16])
    axes[0].set_ylabel("sample")
    figure.suptitle(
        "From biased coin flips to one beat in every fifth bin: the learned chain, a sample a row"
    )
    figure.tight_layout()
    return figure


def claim_result_limit(rows: list[dict], unit: str) -> Figure:
    """The paper's K, ours and the limits on one axis a data set.

    rows: {"title", "points": [(label, value, standard error or 0, kind)]}, kind one of paper, ours,
    limit.
    """
    style()
    colours = {"paper": PAPER, "ours": OURS, "limit": LIMIT}
    markers = {"paper": "s", "ours": "o", "limit": "|"}
    heights = [len(row["points"]) for row in rows]
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(8.6, 0.55 * sum(heights) + 1.0 * len(rows)),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for ax, row in zip(axes[:, 0], rows, strict=True):
        for y, (_label, value, se, kind) in enumerate(row["points"]):
            ax.errorbar(
                value,
                y,
                xerr=se or None,
                fmt=markers[kind],
                color=colours[kind],
                ms=11 if kind == "limit" else 8,
                mew=3 if kind == "limit" else 1,
                capsize=3,
            )
            ax.annotate(
                f"{value:.4g}".replace("-", "−"),
                (value, y),
                textcoords="offset points",
                xytext=(0, 9),
                ha="center",
                fontsize=9,
                color=colours[kind],
            )
        ax.set(
            yticks=range(len(row["points"])),
            yticklabels=[p[0] for p in row["points"]],
            title=row["title"],
            ylim=(len(row["points"]) - 0.5, -0.8),
            xlabel=unit,
        )
        ax.margins(x=0.12)
        ax.grid(axis="x", alpha=0.3)
    figure.suptitle(
        "K of the paper (squares), ours (dots) and what is possible (bars); further right is better"
    )
    figure.tight_layout()
    return figure


def _thousands(ax) -> None:
    """Few ticks below, thousands as k, so that no two labels touch."""
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda step, _: f"{step / 1000:g}k" if abs(step) >= 1000 else f"{step:g}")
    )


def training_curves(curves: dict[str, pd.DataFrame]) -> Figure:
    """One panel a run, K (bits) on the training draws against the step. curves: {title: columns
    step, K}.
    """
    style()
    figure, axes = plt.subplots(1, len(curves), figsize=(3.6 * len(curves), 3.6), squeeze=False)
    for ax, (title, curve) in zip(axes[0], curves.items(), strict=True):
        ax.plot(curve["step"], curve["K"], lw=1)
        # Early values are far below; the axis starts where the last nine tenths of training live.
        late = curve["K"][len(curve) // 10 :]
        ax.set(
            xlabel="training step", ylim=(late.min(), late.max() + 0.05 * (late.max() - late.min()))
        )
        ax.set_title(textwrap.fill(title, 30))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        _thousands(ax)
    figure.suptitle("K on the batches of each training; the start, far below, is cut off")
    axes[0, 0].set_ylabel("K (bits), batch average")
    figure.tight_layout()
    return figure


def K_by_time_step(
    terms: pd.DataFrame,
    log_t: bool = False,
    unit: str = "bits",
    title: str = "Where the bound is lost: the part of each step, less is better",
) -> Figure:
    """E KL_t at each t. terms: a column a curve, the index is t from 2 on; in ``unit``."""
    style()
    figure, ax = plt.subplots(figsize=(7.2, 4))
    for label, colour in coloured(terms, (OURS, LIMIT, MUTED, PAPER, INK)):
        ax.plot(terms.index, terms[label], label=label, lw=1.2, color=colour)
    ax.set(xlabel="t", ylabel=f"E KL$_t$ ({unit})", yscale="log")
    ax.set_title(textwrap.fill(title, 75))
    if log_t:
        ax.set_xscale("log")
    ax.legend(fontsize=9)
    figure.tight_layout()
    return figure


def schedules(kernels: dict) -> Figure:
    """β_t and the signal-to-noise ratio of several kernels. kernels: {label: Kernel}."""
    style()
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.6))
    for label, kernel in kernels.items():
        t = np.arange(1, kernel.T + 1)
        axes[0].plot(t, kernel.beta[1:].numpy(), marker=".", label=label)
        log_snr = kernel.log_alpha_bar - kernel.one_minus_alpha_bar.log()
        axes[1].plot(t, log_snr[1:].numpy(), marker=".", label=label)
    axes[0].set(xlabel="t", ylabel=r"$\beta_t$", yscale="log")
    axes[1].set(xlabel="t", ylabel=r"$\log\,\bar\alpha_t/(1-\bar\alpha_t)$")
    axes[0].legend(fontsize=9)
    figure.suptitle(
        "The learned schedule beside the one at the start: noise a step (left) and signal left (right)"
    )
    figure.tight_layout()
    return figure


def K_star_against_beta_1(
    table: pd.DataFrame, paper: float, L_true: float, chosen: float
) -> Figure:
    """The swiss roll's K* (bits) against β_1, with the paper's K. table: columns beta_1, noise,
    K_star, K_star_se.
    """
    style()
    figure, ax = plt.subplots(figsize=(7.2, 4.4))
    for noise, rows in table.groupby("noise"):
        ax.errorbar(
            rows["beta_1"],
            rows["K_star"],
            yerr=rows["K_star_se"],
            marker="o",
            ms=4,
            label=f"$K^*$, roll noise σ = {noise:g}",
        )
    ax.axhline(paper, color=PAPER, ls="--", label=f"paper's K, {paper} bits")
    ax.axhline(L_true, color=LIMIT, ls=":", label=f"true L at our σ, {L_true:.2f} bits")
    ax.axvline(chosen, color=MUTED, lw=1, label=rf"our $\beta_1$ = {chosen:g}")
    ax.set(xscale="log", xlabel=r"$\beta_1$", ylabel="bits per point")
    ax.set_title(
        "The first step's noise caps K: only curves above the dashed line allow the paper's K"
    )
    ax.legend(
        fontsize=9, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.2)
    )  # below: the curves fill the axes
    figure.tight_layout()
    return figure


def K_against_T(table: pd.DataFrame, paper: float, L_true: float) -> Figure:
    """The heartbeat's K* (bits) against T, the paper's K and ours. table: columns n_steps, K,
    label, K_se.
    """
    style()
    figure, ax = plt.subplots(figsize=(7.2, 4))
    for label, rows in table.groupby("label", sort=False):
        exact = (rows["K_se"] == 0).all()
        ax.errorbar(
            rows["n_steps"],
            rows["K"],
            yerr=None if exact else rows["K_se"],
            label=label,
            marker="." if exact else "o",
            ls="-" if exact else "none",
            color=LIMIT if exact else OURS,
            zorder=3,
        )
    ax.plot([2000], [paper], "s", color=PAPER, label=f"paper, {paper}")
    ax.axhline(L_true, color=INK, ls=":", label=f"true L, {L_true:.3f}")
    ax.set(xscale="log", xlabel="number of steps T", ylabel="bits per sequence", ylim=(-2.9, -2.28))
    ax.set_title("More steps bring independent bit flips nearer to the true L")
    ax.legend(fontsize=9)
    figure.tight_layout()
    return figure
