"""Figure 1, the swiss roll, and its animation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import animation
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.spatial import cKDTree
from torch import Tensor

from replication.pages.style import MUTED, OURS, PAPER, style


def _square(ax, limit: float) -> None:
    ax.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        aspect="equal",
        xticks=[-2, 0, 2],
        yticks=[-2, 0, 2],
    )


def where_data_pass(positions: np.ndarray, points: np.ndarray, reach: float) -> np.ndarray:
    """True at the positions (m, 2) that have two thousandths of the points (n, 2), at least one,
    within ``reach``.
    """
    near = cKDTree(points).query_ball_point(positions, reach, return_length=True)
    return near >= max(1, len(points) / 500)


def _drift(ax, positions: np.ndarray, arrows: np.ndarray, points: np.ndarray):
    """Arrows where data pass: their lengths drawn saturate within the grid's spacing, the colour is
    the true length.
    """
    spacing = np.median(cKDTree(positions).query(positions, k=2)[0][:, 1])
    here = where_data_pass(positions, points, spacing)
    positions, arrows = positions[here], arrows[here]
    length = np.linalg.norm(arrows, axis=1)
    # tanh: in proportion while short, then of one length, so that no arrow leaves its cell and the
    # short ones keep a direction.
    short = 0.3 * np.median(length) if length.any() else 1.0
    drawn = (
        arrows
        / np.where(length, length, 1.0)[:, None]
        * 0.95
        * spacing
        * np.tanh(length / short)[:, None]
    )
    ax.scatter(*points.T, s=1.5, color=MUTED, alpha=0.35, linewidths=0, rasterized=True)
    options = {
        "angles": "xy",
        "scale_units": "xy",
        "scale": 1,
        "pivot": "mid",
        "cmap": "flare",
        "zorder": 3,
    }
    return ax.quiver(
        *positions.T,
        *drawn.T,
        length,
        width=0.006,
        headwidth=3.6,
        headlength=4,
        headaxislength=3.6,
        **options,
    )


def swiss_roll(
    forward: dict[int, Tensor], reverse: dict[int, Tensor], drift: dict[int, tuple], T: int
) -> Figure:
    """Figure 1: forward chain, reverse chain and drift f_μ(x,t) − x, at t = 0, T/2 and T.

    forward, reverse: {t: points (n, 2)}. drift: {t: (positions (m, 2), arrows (m, 2), step shown)};
    an arrow is drawn only where the forward chain has points at that t.
    """
    style()
    times = [0, T // 2, T]
    names = ["$t = 0$", rf"$t = T/2 = {T // 2}$", f"$t = T = {T}$"]
    figure, axes = plt.subplots(
        3, 3, figsize=(9.4, 10.6), sharex=True, sharey=True, layout="constrained"
    )
    for column, (t, name) in enumerate(zip(times, names, strict=True)):
        for row, (points, colour) in enumerate([(forward[t], OURS), (reverse[t], PAPER)]):
            axes[row, column].scatter(
                *points.numpy().T, s=2, color=colour, alpha=0.45, linewidths=0, rasterized=True
            )
        position, arrow, shown = drift[t]
        quiver = _drift(axes[2, column], position.numpy(), arrow.numpy(), forward[t].numpy())
        bar = figure.colorbar(
            quiver, ax=axes[2, column], orientation="horizontal", shrink=0.8, aspect=30, pad=0.02
        )
        bar.set_label(f"length of the drift, step {shown} → {shown - 1}", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.locator = MaxNLocator(4)
        axes[0, column].set_title(name)
    labels = [r"forward  $q(x^t)$", r"reverse  $p(x^t)$", r"drift  $f_\mu(x^t, t) - x^t$"]
    for row, label in enumerate(labels):
        axes[row, 0].set_ylabel(label)
        for ax in axes[row]:
            _square(ax, 3.2)
    figure.suptitle(
        "Noise erases the roll (top); the learned chain brings it back (middle), as its drift says (bottom)"
    )
    return figure


def swiss_roll_animation(trajectory: dict[int, Tensor], path: Path, hold: int = 12) -> None:
    """A GIF of the reverse trajectory from t = T to 0. trajectory: {t: points (n, 2)}."""
    style()
    figure, ax = plt.subplots(figsize=(3.6, 3.8), dpi=80)
    _square(ax, 3.2)
    dots = ax.scatter([], [], s=3, color=PAPER, alpha=0.5, linewidths=0)
    title = ax.set_title("")
    times = sorted(trajectory, reverse=True)
    frames = times[:1] * (hold // 2) + times[1:] + times[-1:] * hold

    def draw(t):
        dots.set_offsets(trajectory[t].numpy())
        title.set_text(rf"reverse chain,  $t = {t}$")

    path.parent.mkdir(parents=True, exist_ok=True)
    animation.FuncAnimation(figure, draw, frames=frames).save(
        path, writer=animation.PillowWriter(fps=10)
    )
    plt.close(figure)
