"""How a model of points is measured: K on held-out points, the best that its schedule allows, and
trajectories to draw.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.bound.bound import L_null, bits, entropy_terms, entropy_terms_eq14, full_bound
from nonequilibrium.bound.optimum import SwissRollOptimum, optimality_gap
from nonequilibrium.bound.theory import jarzynski
from nonequilibrium.data.toys import SwissRoll
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.sampling import forward_trajectory, reverse_trajectory
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.model.toys import PointsModel
from replication.measure.measured import Measured
from replication.measure.metrics import mean_se_bits, metrics, seeded
from replication.settings.evaluation import PointsEvaluation
from replication.settings.registry import EXPERIMENTS

TRAJECTORIES = 16  # of the Jarzynski average (9), per point
NOISES = (1e-3, 1e-2, 5e-2)  # rolls and first steps for which K* is computed
FIRST_STEPS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def evaluate(experiment: str, model: PointsModel, settings: PointsEvaluation) -> Measured:
    """K, K* of the model's schedule, the gap between them measured directly, L, and figure 1."""
    law, params, seed, register = model.law, model.params, settings.seed, EXPERIMENTS[experiment]
    with torch.no_grad():
        kernel = model.kernel()
    reverse, heldout = model.reverse(kernel), law.sample(settings.n_heldout, seeded(seed))
    bound = full_bound(kernel, reverse, heldout, seeded(seed + 1), replicates=2)
    assert register.optimum is not None, "experiments that are measured here name an optimum"
    optimum, random = register.optimum(kernel, law), seeded(seed + 3)
    some = law.sample(settings.n_optimum, seeded(seed + 2))
    star = full_bound(kernel, optimum, some, random, replicates=2)
    gap = mean_se_bits(optimality_gap(kernel, optimum, reverse, some, random).sum(1))
    L_true = mean_se_bits(optimum.log_density(some))
    estimate = mean_se_bits(jarzynski(kernel, reverse, some, TRAJECTORIES, seeded(seed + 4)))
    eq14 = (entropy_terms_eq14(kernel, heldout) - entropy_terms(kernel, heldout)).mean()
    null, limit = float(L_null(kernel, heldout).mean()), {"K_star": bits(star.K)}
    limit |= {"K_star_se": bits(star.se), "L_true": L_true[0], "L_true_se": L_true[1]}
    numbers = metrics(experiment, bound, null, seed, limit=limit, gap=gap[0], gap_se=gap[1])
    numbers |= {name: getattr(params, name) for name in ("units", "n_steps", "beta_1", "noise")}
    numbers |= {"training_seed": params.seed, "n_optimum": settings.n_optimum}
    numbers["jarzynski"] = {"trajectories": TRAJECTORIES, "mean": estimate[0], "se": estimate[1]}
    numbers["eq14_minus_K"] = bits(float(eq14))
    terms = {"model": bits(bound.kl.mean(0))[2:], "optimum": bits(star.kl.mean(0))[2:]}
    tables = {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), **terms})}
    for name in register.parts:
        tables[name] = PARTS[name](settings, params.alpha_bar_T)
    return Measured(numbers, tables, {"beta": kernel.beta[1:]} | _figure_1(model, kernel, settings))


def _figure_1(
    model: PointsModel, kernel: GaussianKernel, settings: PointsEvaluation
) -> dict[str, Tensor]:
    """Points of the forward chain, of the reverse chain at every t, and the drift f_μ(x, t) − x.

    The drift, on a grid, is that of the step that leaves the time of the column. The last step has
    no network, so at t = 0 it is that of step 2.
    """
    T, n, random = kernel.T, settings.n_samples, seeded(settings.seed + 5)
    reverse = model.reverse(kernel)
    forward = forward_trajectory(kernel, model.law.sample(n, random), random, keep=[0, T // 2, T])
    backward = reverse_trajectory(kernel, reverse, (n, 2), random)
    side = torch.linspace(-2.8, 2.8, 24, dtype=torch.float64)
    grid, steps = torch.cartesian_prod(side, side), {0: 2, T // 2: max(2, T // 2), T: T}
    with torch.no_grad():
        drift = {f"drift_{shown}": reverse(grid, t).mean - grid for shown, t in steps.items()}
    arrays = {f"forward_{t}": x for t, x in forward.items()} | drift
    return arrays | {"grid": grid, "reverse": torch.stack([backward[t] for t in range(T + 1)])}


def K_star_against_beta_1(settings: PointsEvaluation, alpha_bar_T: float) -> pd.DataFrame:
    """K* in bits of rolls of several noises under schedules even in log SNR, T = 40, by β_1."""
    rows = []
    for noise in NOISES:
        roll, seed = SwissRoll(noise), settings.seed
        points = roll.sample(settings.n_optimum, seeded(seed + 2))
        for beta_1 in FIRST_STEPS:
            beta = schedule("even_log_snr", 40, beta_1=beta_1, alpha_bar_T=alpha_bar_T)
            kernel = GaussianKernel(beta)
            best = full_bound(kernel, SwissRollOptimum(kernel, roll), points, seeded(seed + 3))
            K = {"K_star": bits(best.K), "K_star_se": bits(best.se)}
            rows.append({"noise": noise, "beta_1": beta_1} | K)
    return pd.DataFrame(rows)


PARTS = {"K_star_against_beta_1": K_star_against_beta_1}  # tables, by the names of the register
