"""How the heartbeat's model is measured: K on held-out sequences, the exact optimum, and what its
true samples are worth.
"""

from __future__ import annotations

import pandas as pd
import torch
from scipy import stats

from nonequilibrium.bound.bound import L_null, bits, entropy_terms, full_bound
from nonequilibrium.bound.optimum import HeartbeatOptimum, heartbeat_optimal_kl, optimality_gap
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.diffusion.sampling import reverse_trajectory, sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.model.toys import HeartbeatModel
from replication.measure.measured import Measured
from replication.measure.metrics import metrics, seeded, warn_unless
from replication.settings.evaluation import HeartbeatEvaluation

CHAINS = (
    50,
    100,
    200,
    500,
    1000,
    2000,
    4000,
    10_000,
)  # numbers of steps T for which K* is computed


def K_star(kernel: BinomialKernel, law: Heartbeat, optimal_kl: torch.Tensor) -> float:
    """K* in bits, exact. optimal_kl: (T + 1,) expected KL_t of the best reverse kernel, nats."""
    return bits(float(entropy_terms(kernel, law.templates()[:1]) - optimal_kl.sum()))


def measured(experiment: str, model: HeartbeatModel, its: HeartbeatEvaluation) -> Measured:
    """K with KL_t of the optimal kernel as a control variate, the plain estimate and K* − K
    measured directly.

    Much of K* − K and of the plain estimate comes from rare x^t, midway between two templates. Half
    of the draws of x^t for those two therefore come from a chain that keeps half as much of the
    signal, weighted so that nothing is biased.
    """
    law, params, kernel = model.law, model.params, model.kernel()
    reverse, optimum, optimal_kl = (
        model.reverse(kernel),
        HeartbeatOptimum(kernel, law),
        heartbeat_optimal_kl(kernel, law),
    )
    heldout, random = law.sample(its.n_heldout, seeded(its.seed)), seeded(its.seed + 1)
    bound = full_bound(
        kernel, reverse, heldout, random, replicates=2, control=(optimum, optimal_kl)
    )
    plain = full_bound(kernel, reverse, heldout, random, noisier_share=0.5)
    gap_terms = optimality_gap(kernel, optimum, reverse, heldout, random, noisier_share=0.5)
    gap, best = gap_terms.sum(1), K_star(kernel, law, optimal_kl)
    numbers = metrics(
        experiment,
        bound,
        float(L_null(kernel, heldout).mean()),
        its.seed,
        limit={"K_star": best, "L_true": bits(law.log_likelihood)},
        gap=bits(float(gap.mean())),
        gap_se=bits(float(gap.std()) / len(gap) ** 0.5),
        K_plain=bits(plain.K),
        K_plain_se=bits(plain.se),
        n_steps=params.n_steps,
        pi=params.pi,
        training_seed=params.seed,
    )
    random = seeded(its.seed + 2)
    shown = reverse_trajectory(
        kernel, reverse, (60, law.dim), random, keep=[0, kernel.T // 2, kernel.T]
    )
    numbers |= _samples(model, kernel, its, random)
    assert (gap_terms > -1e-9).all(), "a divergence is not negative"
    _check(numbers)
    terms = {"optimum": bits(optimal_kl)[2:], "excess": bits(gap_terms.mean(0))[2:]}
    tables = {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), **terms})}
    tables["K_against_T"] = _against_T(
        law, params.pi, numbers, CHAINS if its.n_heldout >= 1000 else CHAINS[:5]
    )
    return Measured(numbers, tables, {f"reverse_{t}": x for t, x in shown.items()})


def _samples(
    model: HeartbeatModel, kernel: BinomialKernel, its: HeartbeatEvaluation, random: torch.Generator
) -> dict:
    """How many true samples are valid, the most that the fixed last step allows, and whether the
    offsets are equally frequent.

    The last step flips bits with β_1, so from a perfect x^1 a valid heartbeat comes out with
    probability (1 − πβ_1)^16 (1 − (1−π)β_1)^4.
    """
    law, pi, beta_1 = model.law, model.params.pi, float(kernel.beta[1])
    samples = sample(kernel, model.reverse(kernel), (its.n_samples, law.dim), random)
    matches = (samples[:, None] == law.templates()).all(-1)
    ones, offsets = law.dim // law.period, matches.sum(0)
    return {
        "n_samples": its.n_samples,
        "valid": float(matches.any(1).double().mean()),
        "valid_ceiling": (1 - pi * beta_1) ** (law.dim - ones) * (1 - (1 - pi) * beta_1) ** ones,
        "offsets": offsets.tolist(),
        "offsets_p_value": float(stats.chisquare(offsets.numpy()).pvalue),
    }


def _check(n: dict) -> None:
    """Warn where two measures of one number differ, or a bound is above its limit, by more than
    four errors.
    """
    best, error = n["limit"]["K_star"], 4 * n["K_se"]
    warn_unless(n["K"] < best + error, "K exceeds K*, which no model can, by over 4 errors")
    two = "the two estimates of K differ by over 4 errors"
    warn_unless(abs(n["K"] - n["K_plain"]) < error + 4 * n["K_plain_se"], two)
    two = "the two measures of K* − K differ by over 4 errors"
    warn_unless(abs(best - n["K"] - n["gap"]) < error + 4 * n["gap_se"], two)
    gained = f"K is only {n['K_minus_L_null']:.2f} bits above L_null: T = {n['n_steps']} is small or training short"
    warn_unless(n["K_minus_L_null"] > 5, gained)
    warn_unless(n["valid"] > 0.1, "few samples look like heartbeats")


def _against_T(law: Heartbeat, pi: float, n: dict, sizes) -> pd.DataFrame:
    """K* of several chains, exact, and the K just measured: columns n_steps, K, K_se, label."""
    rows = []
    for n_steps in sorted({*sizes, n["n_steps"]}):
        kernel = BinomialKernel(schedule("inverse", n_steps), pi)
        best = K_star(kernel, law, heartbeat_optimal_kl(kernel, law))
        rows.append({"n_steps": n_steps, "K": best, "K_se": 0.0, "label": "optimum $K^*$, exact"})
    rows.append({"n_steps": n["n_steps"], "K": n["K"], "K_se": n["K_se"], "label": "our model"})
    return pd.DataFrame(rows)
