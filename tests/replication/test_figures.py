"""The figures: what is drawn where, and that equal pictures give equal bytes."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.schedules import schedule
from replication.pages import (
    benchmark_figures,
    figures,
    image_figures,
    restoration_figures,
    roll_figures,
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def chain():
    """A ring of points at every t, a grid around it, and a drift that is huge in the corners and
    small on the ring.
    """
    angle = torch.linspace(0, 6.28, 500, dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    side = torch.linspace(-2.8, 2.8, 24, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    arrows = -grid * grid.square().sum(1, keepdim=True) ** 3 / 1000
    return {t: ring for t in (0, 20, 40)}, grid, arrows


def drawn():
    points, grid, arrows = chain()
    figure = figures.swiss_roll(points, points, {t: (grid, arrows, max(t, 2)) for t in points}, 40)
    quivers = [c for ax in figure.axes for c in ax.collections if type(c).__name__ == "Quiver"]
    return figure, quivers, arrows


def test_the_drift_is_drawn_where_data_pass_and_can_be_seen_there():
    _, quivers, arrows = drawn()
    assert len(quivers) == 3
    spacing = 5.6 / 23
    for quiver in quivers:
        radius = np.linalg.norm(quiver.XY, axis=1)
        assert 40 < len(radius) < 200 and (abs(radius - 1) <= spacing * 1.01).all(), (
            "arrows near the ring alone"
        )
        length = np.hypot(quiver.U, quiver.V)
        assert length.max() <= spacing, "no arrow leaves its cell"
        assert np.median(length) > spacing / 2, "the usual arrow can be seen"
        true = quiver.get_array()
        assert true.max() < arrows.norm(dim=1).max() / 100, (
            "the corners do not set the scale of the colours"
        )
        assert (
            np.corrcoef(np.argsort(np.argsort(true)), np.argsort(np.argsort(length)))[0, 1] > 0.99
        )


def test_a_drift_of_nothing_and_few_points_are_drawn_too():
    points, grid, _ = chain()
    few = {t: x[:3] for t, x in points.items()}
    figures.swiss_roll(few, few, {t: (grid, torch.zeros_like(grid), 2) for t in points}, 40)
    assert not roll_figures.where_data_pass(np.array([[9.0, 9.0]]), points[0].numpy(), 0.2).any()


def test_equal_figures_give_equal_bytes_at_twice_the_pixels(tmp_path):
    for name in ("a.png", "b.png"):
        figures.save(drawn()[0], tmp_path / name)
        plt.close("all")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert round(image.info["dpi"][0]) == 200 and image.width > 1700


def overlaps(ax):
    """True if two labels of the horizontal axis touch."""
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    inside = [box for box in boxes if ax.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= ax.bbox.x1 + 1]
    return any(left.x1 + 4 > right.x0 for left, right in zip(inside, inside[1:], strict=False))


@pytest.mark.parametrize("steps", [50, 800, 15_000, 60_000, 1_250_000])
def test_labels_of_the_training_curves_do_not_touch(steps):
    curve = pd.DataFrame({"step": np.linspace(0, steps, 100), "K": np.linspace(-3, 2, 100)})
    figure = figures.training_curves(
        {title: curve for title in ("Swiss roll, the paper's 16 units", "b", "c")}
    )
    assert not any(overlaps(ax) for ax in figure.axes)


def every_figure():
    curve = pd.DataFrame(
        {
            "step": [0, 10, 20, 30],
            "K": [0.0, 1, 2, 2],
            "seconds": [0, 60, 120, 180],
            "K_validation": [0, 1, 2, 3],
        }
    )
    images = torch.randint(
        0, 256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    bits = {t: torch.ones(5, 20) for t in (0, 10, 20)}
    quality = pd.DataFrame(
        {
            "method": ["one sample", "other"],
            "PSNR": [1, 2],
            "SSIM": [1, 2],
            "PSNR_se": [0, 1],
            "SSIM_se": [0, 1],
        }
    )
    by_beta = pd.DataFrame({"noise": [0.1], "beta_1": [0.1], "K_star": [1.0], "K_star_se": [0.1]})
    by_T = pd.DataFrame({"n_steps": [10], "K": [-2.5], "K_se": [0.0], "label": ["a"]})
    yield drawn()[0]
    yield figures.heartbeat(bits)
    yield figures.claim_result_limit([{"title": "a", "points": [("b", -1.0, 0.1, "ours")]}], "bits")
    yield figures.training_curves({"a": curve})
    yield figures.K_by_time_step(pd.DataFrame({"a": np.ones(9)}, index=range(2, 11)))
    yield figures.schedules(
        {"a": GaussianKernel(schedule("even_log_snr", 5, beta_1=1e-3, alpha_bar_T=0.1))}
    )
    yield figures.K_star_against_beta_1(by_beta, 1, 1, 0.1)
    yield figures.K_against_T(by_T, -2.4, -2.3)
    yield image_figures.image_grid(images, 3)
    yield image_figures.image_strips({"known": images, "filled": images})
    yield image_figures.parzen_bars(
        pd.DataFrame({"samples": ["a"], "bits": [1], "±": [1], "source": ["ours"]})
    )
    yield image_figures.K_against_time({"a": curve}, {"b": 1}, 0)
    yield image_figures.quality_dots({"a": quality, "b": quality})


def test_every_figure_has_a_title_that_says_what_to_see():
    for figure in every_figure():
        titles = [figure.get_suptitle(), *(ax.get_title(loc="left") for ax in figure.axes)]
        assert max(map(len, titles)) > 25, titles


def test_no_curve_is_left_out_where_colours_run_out():
    many = {f"curve {k}": np.ones(9) * (k + 1) for k in range(8)}
    axes = figures.K_by_time_step(pd.DataFrame(many, index=range(2, 11))).axes[0]
    assert [line.get_label() for line in axes.lines] == list(many) and len(
        axes.get_legend().get_texts()
    ) == 8
    curve = pd.DataFrame({"seconds": [0, 60], "K_validation": [0, 1]})
    axes = image_figures.K_against_time({"a": curve}, {str(k): k for k in range(5)}, 0).axes[0]
    assert len(axes.lines) == 6
    training = pd.DataFrame({"minutes": [1, 2], "bits_per_dim": [5, 4]})
    assert len(benchmark_figures.half_hour({str(k): training for k in range(7)}).axes[0].lines) >= 7
    row = {"trajectories": 10, "gain": 0.01, "low": 0.008, "high": 0.012}
    found = {str(k): {"rows": [row], "images": 4, "T": 9} for k in range(4)}
    drawn = restoration_figures.averages(found, {name: name for name in found})
    assert len(drawn.axes[0].containers) == 4
