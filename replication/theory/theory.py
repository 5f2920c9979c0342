"""The relations of the paper beside (14), measured on the toys with their optimal kernels, which
are exact: nothing is trained.

The average (9) between K and log p(x^0), the brackets (24) with the entropy in them, and posteriors
(16) to (23) beside exact ones. All numbers are in bits, but for divergences of posteriors of the
Gaussian row, which are in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.bound.bound import bits, entropy_terms, full_bound
from nonequilibrium.bound.counts import heartbeat_log_p, heartbeat_reverse_entropy
from nonequilibrium.bound.optimum import HeartbeatOptimum, SwissRollOptimum, heartbeat_optimal_kl
from nonequilibrium.bound.theory import reverse_entropy_bounds
from nonequilibrium.bound.trajectories import effective_sample_size, estimates, log_ratios
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.bit_evidence import BitFactor, TemplateFactor, template_posterior
from nonequilibrium.diffusion.chain import Factor
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from replication.measure.metrics import seeded
from replication.settings import settings
from replication.theory.gaussian_row import row_divergences

PI, NOISE, BETA_1, ALPHA_BAR_T = 0.2, 1e-3, 1e-6, 0.03  # the two toys as ``params.yaml`` has them
RESAMPLES = 1000  # of the bootstrap
BLOCK = 4096  # trajectories at a time
# T of the chains; how many held-out examples and points; n of the averages (9); posteriors.


def heartbeat_chain(T: int) -> BinomialKernel:
    """The heartbeat's chain of T steps."""
    return BinomialKernel(schedule("inverse", T), PI)


def swiss_roll_chain(T: int = 40) -> GaussianKernel:
    """The swiss roll's chain of T steps, even in log signal-to-noise ratio."""
    return GaussianKernel(schedule("even_log_snr", T, beta_1=BETA_1, alpha_bar_T=ALPHA_BAR_T))


def theory(profile: str, seed: int = 7) -> dict:
    """Equations (9) and (24) on both toys; reports/metrics/theory.json. Raises ParameterError for
    another profile.
    """
    its = settings.profile("theory", profile)
    heartbeat, roll = Heartbeat(), SwissRoll(NOISE)
    kernel, points = heartbeat_chain(its["T"]), swiss_roll_chain()
    best = SwissRollOptimum(points, roll)
    of_heartbeat = _averages(
        kernel, HeartbeatOptimum(kernel, heartbeat), heartbeat, "heartbeat", its, seed
    )
    of_heartbeat |= _heartbeat_limits(kernel, heartbeat)
    of_roll = _averages(points, best, roll, "swiss_roll", its, seed)
    some = roll.sample(its["points"], seeded(seed + 2))
    K_star = full_bound(points, best, some, seeded(seed + 3))
    log_density = best.log_density(some)
    of_roll |= {"K_star": bits(K_star.K), "K_star_se": bits(K_star.se)}
    of_roll |= {"L_true": bits(float(log_density.mean())), "L_true_se": bits(_se(log_density))}
    return {
        "profile": profile,
        "seed": seed,
        "jarzynski": {"heartbeat": of_heartbeat, "swiss_roll": of_roll},
        "chains": [_chain(T, heartbeat, its["chain_examples"], seed) for T in its["chains"]],
        "entropy": {
            "heartbeat": heartbeat_brackets(kernel, heartbeat),
            "swiss_roll": swiss_roll_brackets(points, roll, its["points"], seed + 4),
        },
        "widths": [_widths(heartbeat_chain(T), heartbeat) for T in its["chains"]],
    }


def _se(values: Tensor) -> float:
    return float(values.std()) / len(values) ** 0.5


# ---------------------------------------------------------------- the average (9)


def _averages(kernel, reverse, law, name: str, its: dict, seed: int) -> dict:
    """Estimates of log p(x^0) by n = 1, 4, … trajectories on held-out examples, from the same
    trajectories.
    """
    x0 = law.sample(its["examples"][name], seeded(seed))
    random, most = seeded(seed + 1), max(its["averages"])
    # A few examples at a time: all trajectories of all of them would take a gigabyte.
    parts = [
        log_ratios(kernel, reverse, part, most, random) for part in x0.split(max(1, BLOCK // most))
    ]
    log_ratio = torch.cat(parts, 1)
    resampled = torch.randint(len(x0), (RESAMPLES, len(x0)), generator=seeded(seed + 5))
    rows = []
    for n in its["averages"]:
        each = bits(
            estimates(log_ratio, n).mean(0)
        )  # over the groups of n trajectories that there are
        interval = (
            each[resampled].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
        )
        ends = {"low": float(interval[0]), "high": float(interval[1])}
        rows.append({"trajectories": n, "mean": float(each.mean()), "se": _se(each)} | ends)
    size = effective_sample_size(log_ratio)
    sizes = {"effective_sample_size": float(size.mean()), "of_trajectories": len(log_ratio)}
    return {"T": kernel.T, "examples": len(x0), "averages": rows} | sizes


def _heartbeat_limits(kernel: BinomialKernel, law: Heartbeat) -> dict:
    """K*, log p(x^0) and L, all exact."""
    K_star = entropy_terms(kernel, law.templates()[:1]) - heartbeat_optimal_kl(kernel, law).sum()
    log_p = heartbeat_log_p(kernel, law)
    return {"K_star": bits(float(K_star)), "log_p": bits(log_p), "L_true": bits(law.log_likelihood)}


def _chain(T: int, law: Heartbeat, examples: int, seed: int) -> dict:
    """How far K* (exact), one trajectory, sixteen, and log p(x^0) (exact) are below L in a chain of
    T steps of the heartbeat.
    """
    kernel = heartbeat_chain(T)
    x0 = law.sample(examples, seeded(seed))
    log_ratio = log_ratios(kernel, HeartbeatOptimum(kernel, law), x0, 16, seeded(seed + T))
    row = {"T": T} | _heartbeat_limits(kernel, law)
    for n in (1, 16):
        each = bits(
            estimates(log_ratio, n).flatten()
        )  # all are independent: a heartbeat is as good as another
        row |= {f"mean_{n}": float(each.mean()), f"se_{n}": _se(each)}
    row["spread_1"] = bits(float(log_ratio.std()))  # of one trajectory
    return row


# ---------------------------------------------------------------- the brackets (24)


def heartbeat_brackets(kernel: BinomialKernel, law: Heartbeat) -> dict:
    """(24) of the heartbeat at t = 2..T, bits a sequence; ``truth`` is exact."""
    lower, upper = reverse_entropy_bounds(kernel, law.templates())
    return _brackets(kernel, lower, heartbeat_reverse_entropy(kernel, law), upper)


def swiss_roll_brackets(kernel: GaussianKernel, law: SwissRoll, n: int, seed: int) -> dict:
    """(24) of the swiss roll at t = 2..T, bits a point; ``truth`` from n points and the density of
    q(x^t), with its error.

    H_q(X^t) is H_p(X^T) less the divergence of q(x^t) from π, because x^t has variance 1 at every t
    as π has. The same x^0 and the same noise serve every t. Both take noise off H_q(X^{t−1}) −
    H_q(X^t).
    """
    optimum, random = SwissRollOptimum(kernel, law), seeded(seed)
    x0 = law.sample(n, random)
    noise, surprise = torch.randn(n, 2, generator=random, dtype=torch.float64), []
    for t in range(1, kernel.T + 1):
        xt = kernel.sample(kernel.q_marginal(x0, t), noise=noise)
        surprise.append(kernel.log_pi(xt) - swiss_roll_log_q(optimum, xt, t))
    lower, upper = reverse_entropy_bounds(kernel, x0)
    truth, error = lower.clone(), torch.zeros_like(lower)
    for t in range(2, kernel.T + 1):
        fallen = surprise[t - 2] - surprise[t - 1]
        truth[t] = kernel.step_entropy(x0, t).mean() + fallen.mean()
        error[t] = _se(fallen)
    return _brackets(kernel, lower, truth, upper) | {
        "truth_se": bits(error)[2:].tolist(),
        "points": n,
    }


def swiss_roll_log_q(optimum: SwissRollOptimum, xt: Tensor, t: int) -> Tensor:
    """log q(x^t), nats a point: (n, 2) to (n,); the density of x^t/√ᾱ_t around the curve, by
    quadrature.
    """
    alpha_bar, left = (
        float(optimum.kernel.alpha_bar[t]),
        float(optimum.kernel.one_minus_alpha_bar[t]),
    )
    width = (left / alpha_bar + optimum.law.noise**2) ** 0.5
    parts = [
        torch.logsumexp(optimum.log_joint(x, width)[1], 1)
        for x in (xt / alpha_bar**0.5).split(2048)
    ]
    return torch.cat(parts) - torch.log(
        optimum.kernel.alpha_bar[t]
    )  # two coordinates, each shrunk by √ᾱ_t


def _brackets(kernel, lower: Tensor, truth: Tensor, upper: Tensor) -> dict:
    values = {"lower": lower, "truth": truth, "upper": upper}
    return {"t": list(range(2, kernel.T + 1))} | {
        name: bits(value)[2:].tolist() for name, value in values.items()
    }


def _widths(kernel: BinomialKernel, law: Heartbeat) -> dict:
    """Mean and largest width of the bracket (24) over t, bits, and the true entropy's mean place in
    it from 0 to 1.
    """
    found = heartbeat_brackets(kernel, law)
    lower, truth, upper = (
        torch.tensor(found[name], dtype=torch.float64) for name in ("lower", "truth", "upper")
    )
    width = upper - lower
    place = float((truth - lower).sum() / width.sum())
    return {
        "T": kernel.T,
        "mean": float(width.mean()),
        "largest": float(width.max()),
        "place": place,
    }


# ---------------------------------------------------------------- posteriors (16) to (23)


def evidence() -> dict[str, Tensor]:
    """What is said of single bits, as log odds, (20,) nats each: bits are numbered from 1 as in
    figure 2.
    """
    nine, one = (
        torch.log(torch.tensor(9.0, dtype=torch.float64)),
        torch.zeros(20, dtype=torch.float64),
    )
    named = {"bit 3 is one, 9:1": {3: 1}, "bits 3 and 4 are one, 9:1 each": {3: 1, 4: 1}}
    named["bits 3 and 8 are one, bit 13 is zero, 9:1 each"] = {3: 1, 8: 1, 13: -1}
    result = {}
    for name, signs in named.items():
        result[name] = one.clone()
        for bit, sign in signs.items():
            result[name][bit - 1] = sign * nine
    return result


def bit_posteriors(
    kernel: BinomialKernel, reverse, law: Heartbeat, n: int, seed: int
) -> list[dict]:
    """Samples given evidence of bits beside the exact posterior over the five templates: a row for
    each evidence and r.

    total_variation: over six outcomes, the five templates and no heartbeat. among_valid: over the
    heartbeats among the samples, None if there are none.
    """
    rows, templates = [], law.templates()
    for name, log_odds in evidence().items():
        exact = template_posterior(templates, log_odds)
        factors: dict[str, Factor] = {
            "constant r": BitFactor(log_odds),
            "annealed r": BitFactor(log_odds, annealed=True),
            "r through the templates": TemplateFactor(templates, log_odds),
        }
        for way, r in factors.items():
            x = sample(kernel, reverse, (n, law.dim), seeded(seed), r=r)
            share = (x[:, None] == templates).all(-1).double().mean(0)
            valid = share.sum()
            distance = 0.5 * ((share - exact).abs().sum() + 1 - valid)
            among = float(0.5 * (share / valid - exact).abs().sum()) if valid > 0 else None
            measured = {
                "total_variation": float(distance),
                "among_valid": among,
                "valid": float(valid),
            }
            rows.append(
                {"evidence": name, "way": way}
                | measured
                | {"share": share.tolist(), "exact": exact.tolist()}
            )
    return rows


def posteriors(profile: str, seed: int = 7) -> dict:
    """Posteriors beside exact ones, Gaussian row (nats) and heartbeat;
    reports/metrics/posteriors.json. Raises ParameterError.
    """
    its, law = settings.profile("theory", profile), Heartbeat()
    kernel = heartbeat_chain(its["bits"]["T"])
    bits_rows = bit_posteriors(kernel, HeartbeatOptimum(kernel, law), law, its["bits"]["n"], seed)
    row = row_divergences(**its["row"], seed=seed)
    return {
        "profile": profile,
        "seed": seed,
        "row": row,
        "bits": bits_rows,
        "bits_T": kernel.T,
        **{"bits_n": its["bits"]["n"]},
    }
