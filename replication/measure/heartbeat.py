"""How the heartbeat's model is measured: K, the exact optimum K*, and valid samples."""

from scipy import stats

from nonequilibrium.bound.bound import L_null, bits, entropy_terms, full_bound, mean_se
from nonequilibrium.bound.optimum import HeartbeatOptimum, heartbeat_optimal_kl, optimality_gap
from nonequilibrium.diffusion.sampling import reverse_trajectory, sample
from nonequilibrium.model.toys import HeartbeatModel
from replication.measure.measured import Measured
from replication.measure.metrics import by_time_step, metrics, seeded
from replication.settings.params import HeartbeatEvaluation


def evaluate(experiment: str, model: HeartbeatModel, settings: HeartbeatEvaluation) -> Measured:
    """K with KL_t of the optimal kernel as a control variate, the plain estimate, and K* − K.

    Much of the last two comes from rare x^t between two templates; for them half of the draws have
    more noise, weighted so that nothing is biased.
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
    samples = sample(kernel, reverse, (settings.n_samples, law.dim), random)
    matches = (samples[:, None] == law.templates()).all(-1)
    numbers |= {"n_samples": len(samples), "valid": float(matches.any(1).double().mean())}
    numbers["offsets_p_value"] = float(stats.chisquare(matches.sum(0).numpy()).pvalue)
    tables = by_time_step(optimum=bits(optimal_kl), excess=bits(gaps.mean(0)))
    return Measured(numbers, tables, {f"reverse_{t}": x for t, x in shown.items()})
