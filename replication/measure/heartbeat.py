"""How the heartbeat's model is measured: K on held-out sequences, the exact optimum, and how many
true samples are valid.
"""

from __future__ import annotations

import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from nonequilibrium.bound.bound import L_null, bits, entropy_terms, full_bound
from nonequilibrium.bound.optimum import HeartbeatOptimum, heartbeat_optimal_kl, optimality_gap
from nonequilibrium.data.toys import Heartbeat
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.diffusion.sampling import reverse_trajectory, sample
from nonequilibrium.diffusion.schedules import schedule
from nonequilibrium.model.toys import HeartbeatModel
from replication.measure.measured import Measured
from replication.measure.metrics import mean_se_bits, metrics, seeded, warn_unless
from replication.settings.evaluation import HeartbeatEvaluation

CHAINS = (50, 100, 200, 500, 1000, 2000, 4000, 10_000)  # T for which K* is computed


def K_star(kernel: BinomialKernel, law: Heartbeat, optimal_kl: Tensor | None = None) -> Tensor:
    """K* in nats, exact and differentiable in β. optimal_kl: ``heartbeat_optimal_kl``, if known."""
    optimal_kl = heartbeat_optimal_kl(kernel, law) if optimal_kl is None else optimal_kl
    return entropy_terms(kernel, law.templates()[:1])[0] - optimal_kl.sum()


def evaluate(experiment: str, model: HeartbeatModel, settings: HeartbeatEvaluation) -> Measured:
    """K with KL_t of the optimal kernel as a control variate, the plain estimate, and K* − K.

    Much of K* − K and of the plain estimate comes from rare x^t, midway between two templates. For
    these two half of the draws of x^t come from a chain that keeps half as much of the signal, and
    are weighted so that nothing is biased.
    """
    law, params, kernel, seed = model.law, model.params, model.kernel(), settings.seed
    reverse, optimum = model.reverse(kernel), HeartbeatOptimum(kernel, law)
    optimal_kl = heartbeat_optimal_kl(kernel, law)
    heldout, random = law.sample(settings.n_heldout, seeded(seed)), seeded(seed + 1)
    control = (optimum, optimal_kl)
    bound = full_bound(kernel, reverse, heldout, random, replicates=2, control=control)
    plain = full_bound(kernel, reverse, heldout, random, noisier_share=0.5)
    gaps = optimality_gap(kernel, optimum, reverse, heldout, random, noisier_share=0.5)
    assert (gaps > -1e-9).all(), "a divergence is not negative"
    gap, gap_se = mean_se_bits(gaps.sum(1))
    limit = {"K_star": bits(float(K_star(kernel, law, optimal_kl)))}
    limit["L_true"] = bits(law.log_likelihood)
    null = float(L_null(kernel, heldout).mean())
    numbers = metrics(experiment, bound, null, seed, limit=limit, gap=gap, gap_se=gap_se)
    numbers |= {"K_plain": bits(plain.K), "K_plain_se": bits(plain.se), "n_steps": kernel.T}
    numbers |= {"pi": params.pi, "training_seed": params.seed}
    random, kept = seeded(seed + 2), [0, kernel.T // 2, kernel.T]
    shown = reverse_trajectory(kernel, reverse, (60, law.dim), random, keep=kept)
    numbers |= _samples(model, kernel, settings.n_samples, random)
    _check(numbers)
    terms = {"optimum": bits(optimal_kl)[2:], "excess": bits(gaps.mean(0))[2:]}
    tables = {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), **terms})}
    chains = CHAINS if settings.n_heldout >= 1000 else CHAINS[:5]
    tables["K_against_T"] = _against_T(law, params.pi, numbers, chains)
    return Measured(numbers, tables, {f"reverse_{t}": x for t, x in shown.items()})


def _samples(
    model: HeartbeatModel, kernel: BinomialKernel, n: int, random: torch.Generator
) -> dict:
    """How many of n true samples are valid, the most that the last step allows, and offsets.

    The fixed last step flips bits with β_1: from a perfect x^1 a valid heartbeat comes out with
    probability (1 − πβ_1)^16 (1 − (1−π)β_1)^4.
    """
    law, pi, beta_1 = model.law, model.params.pi, float(kernel.beta[1])
    samples = sample(kernel, model.reverse(kernel), (n, law.dim), random)
    matches = (samples[:, None] == law.templates()).all(-1)
    ones, offsets = law.dim // law.period, matches.sum(0)
    ceiling = (1 - pi * beta_1) ** (law.dim - ones) * (1 - (1 - pi) * beta_1) ** ones
    return {
        "n_samples": n,
        "valid": float(matches.any(1).double().mean()),
        "valid_ceiling": ceiling,
        "offsets": offsets.tolist(),
        "offsets_p_value": float(stats.chisquare(offsets.numpy()).pvalue),
    }


def _check(n: dict) -> None:
    """Warn where two measures of one number differ, or K exceeds its limit, by over 4 errors."""
    best, error = n["limit"]["K_star"], 4 * n["K_se"]
    warn_unless(n["K"] < best + error, "K exceeds K*, which no model can, by over 4 errors")
    agree = abs(n["K"] - n["K_plain"]) < error + 4 * n["K_plain_se"]
    warn_unless(agree, "the two estimates of K differ by over 4 errors")
    agree = abs(best - n["K"] - n["gap"]) < error + 4 * n["gap_se"]
    warn_unless(agree, "the two measures of K* − K differ by over 4 errors")
    gained, chain = n["K_minus_L_null"], f"T = {n['n_steps']} is small or training short"
    warn_unless(gained > 5, f"K is only {gained:.2f} bits above L_null: {chain}")
    warn_unless(n["valid"] > 0.1, "few samples look like heartbeats")


def _against_T(law: Heartbeat, pi: float, n: dict, chains: tuple[int, ...]) -> pd.DataFrame:
    """K* of several chains, exact, and the K just measured: columns n_steps, K, K_se, label."""
    rows = []
    for n_steps in sorted({*chains, n["n_steps"]}):
        best = bits(float(K_star(BinomialKernel(schedule("inverse", n_steps), pi), law)))
        rows.append({"n_steps": n_steps, "K": best, "K_se": 0.0, "label": "optimum $K^*$, exact"})
    rows.append({"n_steps": n["n_steps"], "K": n["K"], "K_se": n["K_se"], "label": "our model"})
    return pd.DataFrame(rows)
