"""How the heartbeat's model is measured: K, the exact optimum K*, and valid samples."""

from __future__ import annotations

import pandas as pd
import torch
from scipy import stats

from nonequilibrium.bound.bound import L_null, bits, entropy_terms, full_bound, mean_se
from nonequilibrium.bound.optimum import HeartbeatOptimum, heartbeat_optimal_kl, optimality_gap
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.diffusion.sampling import reverse_trajectory, sample
from nonequilibrium.model.toys import HeartbeatModel
from replication.measure.measured import Measured
from replication.measure.metrics import metrics, seeded
from replication.settings.params import HeartbeatEvaluation


def evaluate(experiment: str, model: HeartbeatModel, settings: HeartbeatEvaluation) -> Measured:
    """K with KL_t of the optimal kernel as a control variate, the plain estimate, and K* − K.

    Much of the last two comes from rare x^t, midway between two templates. For them half of the
    draws come from a chain that keeps half as much of the signal, weighted so that nothing is
    biased.
    """
    law, kernel, seed = model.law, model.kernel(), settings.seed
    reverse, optimum = model.reverse(kernel), HeartbeatOptimum(kernel, law)
    optimal_kl = heartbeat_optimal_kl(kernel, law)
    K_star = float(entropy_terms(kernel, law.templates()[:1])[0] - optimal_kl.sum())
    control = optimum, optimal_kl
    heldout, random = law.sample(settings.n_heldout, seeded(seed)), seeded(seed + 1)
    bound = full_bound(kernel, reverse, heldout, random, replicates=2, control=control)
    plain = full_bound(kernel, reverse, heldout, random, noisier_share=0.5)
    gaps = optimality_gap(kernel, optimum, reverse, heldout, random, noisier_share=0.5)
    assert (gaps > -1e-9).all(), "a divergence is not negative"
    numbers = metrics(experiment, bound, float(L_null(kernel, heldout).mean()), seed)
    numbers["limit"] = {"K_star": bits(K_star), "L_true": bits(law.log_likelihood)}
    numbers["gap"], numbers["gap_se"] = map(bits, mean_se(gaps.sum(1)))
    numbers |= {"K_plain": bits(plain.K), "K_plain_se": bits(plain.se)}
    numbers |= {"n_steps": kernel.T, "pi": model.params.pi}
    random, kept = seeded(seed + 2), [0, kernel.T // 2, kernel.T]
    shown = reverse_trajectory(kernel, reverse, (60, law.dim), random, keep=kept)
    numbers |= _samples(model, kernel, settings.n_samples, random)
    terms = {"optimum": bits(optimal_kl)[2:], "excess": bits(gaps.mean(0))[2:]}
    tables = {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), **terms})}
    return Measured(numbers, tables, {f"reverse_{t}": x for t, x in shown.items()})


def _samples(
    model: HeartbeatModel, kernel: BinomialKernel, n: int, random: torch.Generator
) -> dict:
    """How many of n true samples are valid, the most that the last step allows, and their offsets.

    The fixed last step flips bits with β_1: from a perfect x^1 a valid heartbeat comes out with
    probability (1 − πβ_1)^16 (1 − (1−π)β_1)^4.
    """
    law, pi, beta_1 = model.law, model.params.pi, float(kernel.beta[1])
    samples = sample(kernel, model.reverse(kernel), (n, law.dim), random)
    matches = (samples[:, None] == law.templates()).all(-1)
    ones, offsets = law.dim // law.period, matches.sum(0)
    return {
        "n_samples": n,
        "valid": float(matches.any(1).double().mean()),
        "valid_ceiling": (1 - pi * beta_1) ** (law.dim - ones) * (1 - (1 - pi) * beta_1) ** ones,
        "offsets": offsets.tolist(),
        "offsets_p_value": float(stats.chisquare(offsets.numpy()).pvalue),
    }
