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
from replication.measure.metrics import metrics, seeded
from replication.settings.evaluation import PointsEvaluation
from replication.settings.registry import EXPERIMENTS

TRAJECTORIES = 16  # of the Jarzynski average (9), for each point
NOISES = (1e-3, 1e-2, 5e-2)  # rolls and first steps for which K* is computed
FIRST_STEPS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


def mean_and_se(values: Tensor) -> tuple[float, float]:
    """Mean of values (n,) in nats and its standard error, in bits."""
    return bits(float(values.mean())), bits(float(values.std()) / len(values) ** 0.5)


def measured(experiment: str, model: PointsModel, its: PointsEvaluation) -> Measured:
    """K, K* of the model's schedule, the gap between them by both measures, the true L, and what
    figure 1 shows.
    """
    law, params = model.law, model.params
    with torch.no_grad():
        kernel = model.kernel()
    reverse = model.reverse(kernel)
    heldout = law.sample(its.n_heldout, seeded(its.seed))
    bound = full_bound(kernel, reverse, heldout, seeded(its.seed + 1), replicates=2)
    some = law.sample(its.n_optimum, seeded(its.seed + 2))
    build = EXPERIMENTS[experiment].optimum
    assert build is not None, "experiments that are measured here name an optimum"
    optimum, random = build(kernel, law), seeded(its.seed + 3)
    star = full_bound(kernel, optimum, some, random, replicates=2)
    gap, gap_se = mean_and_se(optimality_gap(kernel, optimum, reverse, some, random).sum(1))
    L_true, L_true_se = mean_and_se(optimum.log_density(some))
    estimate, estimate_se = mean_and_se(
        jarzynski(kernel, reverse, some, TRAJECTORIES, seeded(its.seed + 4))
    )
    numbers = metrics(
        experiment,
        bound,
        float(L_null(kernel, heldout).mean()),
        its.seed,
        limit={
            "K_star": bits(star.K),
            "K_star_se": bits(star.se),
            "L_true": L_true,
            "L_true_se": L_true_se,
        },
        gap=gap,
        gap_se=gap_se,
        units=params.units,
        n_steps=params.n_steps,
        beta_1=params.beta_1,
        noise=params.noise,
        training_seed=params.seed,
        n_optimum=its.n_optimum,
        jarzynski={"trajectories": TRAJECTORIES, "mean": estimate, "se": estimate_se},
        eq14_minus_K=bits(
            float((entropy_terms_eq14(kernel, heldout) - entropy_terms(kernel, heldout)).mean())
        ),
    )
    terms = {"model": bits(bound.kl.mean(0))[2:], "optimum": bits(star.kl.mean(0))[2:]}
    tables = {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), **terms})}
    if experiment == "swiss_roll":
        tables["K_star_against_beta_1"] = K_star_against_beta_1(its, params.alpha_bar_T)
    return Measured(numbers, tables, {"beta": kernel.beta[1:]} | _figure_1(model, kernel, its))


def _figure_1(
    model: PointsModel, kernel: GaussianKernel, its: PointsEvaluation
) -> dict[str, Tensor]:
    """Points of the forward chain, the reverse chain at every t, and the drift f_μ(x, t) − x on a
    grid.

    The drift is that of the step that leaves the time of the column. The last step has no network,
    so at t = 0 it is that of step 2.
    """
    T, random, reverse = kernel.T, seeded(its.seed + 5), model.reverse(kernel)
    forward = forward_trajectory(
        kernel, model.law.sample(its.n_samples, random), random, keep=[0, T // 2, T]
    )
    backward = reverse_trajectory(kernel, reverse, (its.n_samples, 2), random)
    side = torch.linspace(-2.8, 2.8, 24, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    steps = {0: 2, T // 2: max(2, T // 2), T: T}  # T // 2 is 1 in a chain of two or three steps
    with torch.no_grad():
        drift = {f"drift_{shown}": reverse(grid, t).mean - grid for shown, t in steps.items()}
    arrays = {f"forward_{t}": x for t, x in forward.items()} | drift
    return arrays | {"grid": grid, "reverse": torch.stack([backward[t] for t in range(T + 1)])}


def K_star_against_beta_1(its: PointsEvaluation, alpha_bar_T: float) -> pd.DataFrame:
    """K* in bits of rolls of several noises under schedules even in log SNR, T = 40, from several
    β_1.
    """
    rows = []
    for noise in NOISES:
        roll = SwissRoll(noise)
        points = roll.sample(its.n_optimum, seeded(its.seed + 2))
        for beta_1 in FIRST_STEPS:
            kernel = GaussianKernel(
                schedule("even_log_snr", 40, beta_1=beta_1, alpha_bar_T=alpha_bar_T)
            )
            best = full_bound(kernel, SwissRollOptimum(kernel, roll), points, seeded(its.seed + 3))
            rows.append(
                {
                    "noise": noise,
                    "beta_1": beta_1,
                    "K_star": bits(best.K),
                    "K_star_se": bits(best.se),
                }
            )
    return pd.DataFrame(rows)
