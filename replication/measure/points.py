"""How a model of points is measured: K, the best that its schedule allows, and trajectories."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.bound.bound import L_null, bits, full_bound, mean_se
from nonequilibrium.bound.optimum import optimality_gap
from nonequilibrium.bound.theory import jarzynski
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.sampling import forward_trajectory, reverse_trajectory
from nonequilibrium.model.toys import PointsModel
from replication.measure.measured import Measured
from replication.measure.metrics import metrics, seeded
from replication.settings.evaluation import PointsEvaluation
from replication.settings.registry import EXPERIMENTS

TRAJECTORIES = 16  # of the Jarzynski average (9), per point


def evaluate(experiment: str, model: PointsModel, settings: PointsEvaluation) -> Measured:
    """K, K* of the model's schedule, the gap between them measured directly, L, and figure 1."""
    law, params, seed = model.law, model.params, settings.seed
    with torch.no_grad():
        kernel = model.kernel()
    reverse, build = model.reverse(kernel), EXPERIMENTS[experiment].optimum
    assert build is not None, "experiments that are measured here name an optimum"
    heldout = law.sample(settings.n_heldout, seeded(seed))
    bound = full_bound(kernel, reverse, heldout, seeded(seed + 1), replicates=2)
    optimum, random = build(kernel, law), seeded(seed + 3)
    some = law.sample(settings.n_optimum, seeded(seed + 2))
    star = full_bound(kernel, optimum, some, random, replicates=2)
    gap = optimality_gap(kernel, optimum, reverse, some, random).sum(1)
    L, L_se = map(bits, mean_se(optimum.log_density(some)))
    mean, se = mean_se(jarzynski(kernel, reverse, some, TRAJECTORIES, seeded(seed + 4)))
    null = float(L_null(kernel, heldout).mean())
    limit = {"K_star": bits(star.K), "K_star_se": bits(star.se), "L_true": L, "L_true_se": L_se}
    numbers = metrics(experiment, bound, null, seed, limit=limit)
    numbers["gap"], numbers["gap_se"] = map(bits, mean_se(gap))
    numbers |= {name: getattr(params, name) for name in ("units", "n_steps", "beta_1", "noise")}
    numbers["n_optimum"] = settings.n_optimum
    numbers["jarzynski"] = {"trajectories": TRAJECTORIES, "mean": bits(mean), "se": bits(se)}
    terms = {"model": bits(bound.kl.mean(0))[2:], "optimum": bits(star.kl.mean(0))[2:]}
    tables = {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), **terms})}
    return Measured(numbers, tables, {"beta": kernel.beta[1:]} | _figure_1(model, kernel, settings))


def _figure_1(
    model: PointsModel, kernel: GaussianKernel, settings: PointsEvaluation
) -> dict[str, Tensor]:
    """Points of the forward and the reverse chain, and the drift f_μ(x, t) − x on a grid.

    The drift is that of the step that leaves t; the last step has no network, so t = 0 has step 2.
    """
    T, n, random = kernel.T, settings.n_samples, seeded(settings.seed + 5)
    reverse = model.reverse(kernel)
    forward = forward_trajectory(kernel, model.law.sample(n, random), random, keep=[0, T // 2, T])
    backward = reverse_trajectory(kernel, reverse, (n, 2), random)
    side = torch.linspace(-2.8, 2.8, 24, dtype=torch.float64)
    grid, steps = torch.cartesian_prod(side, side), {0: 2, T // 2: max(2, T // 2), T: T}
    with torch.no_grad():
        arrays = {f"drift_{shown}": reverse(grid, t).mean - grid for shown, t in steps.items()}
    arrays |= {f"forward_{t}": x for t, x in forward.items()}
    return arrays | {"grid": grid, "reverse": torch.stack([backward[t] for t in range(T + 1)])}
