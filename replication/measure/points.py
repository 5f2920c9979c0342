"""How a model of points is measured: K, and the best that its schedule allows."""

import torch

from nonequilibrium.bound.bound import L_null, bits, full_bound, mean_se
from nonequilibrium.bound.optimum import optimality_gap
from nonequilibrium.model.toys import PointsModel
from replication.measure.measured import Measured
from replication.measure.metrics import by_time_step, metrics, seeded
from replication.settings.params import PointsEvaluation
from replication.settings.registry import EXPERIMENTS


def evaluate(experiment: str, model: PointsModel, settings: PointsEvaluation) -> Measured:
    """K, K* of the model's schedule, the gap between them measured directly, and L."""
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
    null = float(L_null(kernel, heldout).mean())
    limit = {"K_star": bits(star.K), "K_star_se": bits(star.se), "L_true": L, "L_true_se": L_se}
    numbers = metrics(experiment, bound, null, seed, limit=limit)
    numbers["gap"], numbers["gap_se"] = map(bits, mean_se(gap))
    numbers |= {name: getattr(params, name) for name in ("units", "n_steps", "beta_1", "noise")}
    numbers["n_optimum"] = settings.n_optimum
    model_kl, optimum_kl = (bits(result.kl.mean(0)) for result in (bound, star))
    return Measured(numbers, by_time_step(model=model_kl, optimum=optimum_kl))
