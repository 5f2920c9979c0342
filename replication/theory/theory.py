"""Equations (9) and (24) and the worth of schedules (2.4.1) on both toys, by optimal kernels."""

from pathlib import Path

import torch
from scipy.optimize import minimize
from torch import Tensor

from nonequilibrium.bound.bound import bits, entropy_terms, full_bound, mean_se
from nonequilibrium.bound.optimum import (
    HeartbeatOptimum,
    SwissRollOptimum,
    heartbeat_log_p,
    heartbeat_optimal_kl,
    heartbeat_reverse_entropy,
)
from nonequilibrium.bound.theory import (
    effective_sample_size,
    estimates,
    log_ratios,
    reverse_entropy_bounds,
)
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import inverse_schedule, schedule
from nonequilibrium.files import save_contents
from replication.files import to_json
from replication.measure.metrics import bootstrapped, seeded
from replication.settings.settings import profile as sizes_of
from replication.theory import posteriors

PI, NOISE, BETA_1, ALPHA_BAR_T = 0.2, 1e-3, 1e-6, 0.03  # the two toys as ``params.yaml`` has them
T_ROLL = 40
BLOCK = 4096  # trajectories at a time; all of them together would take a gigabyte


def swiss_roll_chain(T: int = T_ROLL) -> GaussianKernel:
    """The swiss roll's chain of T steps, even in log signal-to-noise ratio."""
    return GaussianKernel(schedule("even_log_snr", T, beta_1=BETA_1, alpha_bar_T=ALPHA_BAR_T))


def heartbeat_star(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """K* in nats, exact and differentiable in β."""
    return entropy_terms(kernel, law.templates()[:1])[0] - heartbeat_optimal_kl(kernel, law).sum()


def theory(profile: str, seed: int = 7) -> dict:
    """Equations (9) and (24) on both toys; reports/metrics/theory.json. Raises ParameterError."""
    sizes, beat, roll = sizes_of("theory", profile), Heartbeat(), SwissRoll(NOISE)
    beats = BinomialKernel(schedule("inverse", sizes["T"]), PI)
    points, n = swiss_roll_chain(), sizes["points"]
    best, x0 = SwissRollOptimum(points, roll), roll.sample(n, seeded(seed + 2))
    K_star, L = full_bound(points, best, x0, seeded(seed + 3)), mean_se(best.log_density(x0))
    limits = {"K_star": bits(K_star.K), "K_star_se": bits(K_star.se)}
    limits |= {"L_true": bits(L[0]), "L_true_se": bits(L[1])}

    def jarzynski(kernel, reverse, law, n: int) -> dict:
        return averages(kernel, reverse, law.sample(n, seeded(seed)), sizes["averages"], seed)

    of_beats = jarzynski(beats, HeartbeatOptimum(beats, beat), beat, sizes["examples"]["heartbeat"])
    of_beats |= heartbeat_limits(beats, beat)
    of_roll = jarzynski(points, best, roll, sizes["examples"]["swiss_roll"]) | limits
    brackets = {"heartbeat": heartbeat_brackets(beats, beat)}
    brackets["swiss_roll"] = swiss_roll_brackets(points, roll, n, seed + 4)
    result = {"profile": profile, "seed": seed}
    result["jarzynski"] = {"heartbeat": of_beats, "swiss_roll": of_roll}
    result["chains"] = [chain_row(T, beat, sizes["chain_examples"], seed) for T in sizes["chains"]]
    return result | {"entropy": brackets}


def run(reports: Path) -> None:
    """Write theory.json and posteriors.json into ``reports``/metrics, minutes on one core."""
    torch.set_num_threads(1)
    equations = theory("full") | {"schedules": schedules("full")}
    rows = posteriors.posteriors("full") | {"particles": posteriors.weighted("full")}
    records = {"theory": equations, "posteriors": rows}
    texts = {reports / f"metrics/{name}.json": to_json(n).encode() for name, n in records.items()}
    save_contents(texts)


def averages(kernel, reverse, x0: Tensor, counts, seed: int) -> dict:
    """Estimates of log p(x^0) by n trajectories for each n of ``counts``, from the same draws."""
    random, most = seeded(seed + 1), max(counts)
    parts = x0.split(max(1, BLOCK // most))
    log_ratio = torch.cat([log_ratios(kernel, reverse, part, most, random) for part in parts], 1)
    rows = []
    for n in counts:
        values = bits(estimates(log_ratio, n).mean(0))
        rows.append({"trajectories": n} | bootstrapped("mean", values, seed + 5))
    size = float(effective_sample_size(log_ratio).mean())
    result = {"T": kernel.T, "examples": len(x0), "averages": rows}
    return result | {"effective_sample_size": size, "of_trajectories": most}


def heartbeat_limits(kernel: BinomialKernel, law: Heartbeat) -> dict:
    """K*, log p(x^0) and L, all exact."""
    K_star, log_p = float(heartbeat_star(kernel, law)), heartbeat_log_p(kernel, law)
    return {"K_star": bits(K_star), "log_p": bits(log_p), "L_true": bits(law.log_likelihood)}


def chain_row(T: int, law: Heartbeat, examples: int, seed: int) -> dict:
    """The limits of a chain of T steps of the heartbeat, and the averages (9) of 1 and of 16."""
    kernel, x0 = BinomialKernel(schedule("inverse", T), PI), law.sample(examples, seeded(seed))
    log_ratio = log_ratios(kernel, HeartbeatOptimum(kernel, law), x0, 16, seeded(seed + T))
    means = {f"mean_{n}": float(bits(estimates(log_ratio, n).flatten()).mean()) for n in (1, 16)}
    return {"T": T} | heartbeat_limits(kernel, law) | means


def heartbeat_brackets(kernel: BinomialKernel, law: Heartbeat) -> dict:
    """(24) of the heartbeat at t = 2..T, bits per sequence; ``truth`` is exact."""
    lower, upper = reverse_entropy_bounds(kernel, law.templates())
    return _in_bits(lower=lower, truth=heartbeat_reverse_entropy(kernel, law), upper=upper)


def swiss_roll_brackets(kernel: GaussianKernel, law: SwissRoll, n: int, seed: int) -> dict:
    """(24) of the swiss roll at t = 2..T, bits per point; ``truth`` is from n points, with error.

    H_q(X^t) is H_p(X^T) less the divergence of q(x^t) from π, because both have variance 1. One x^0
    and one noise serve every t, which takes noise off H_q(X^{t−1}) − H_q(X^t).
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
        fallen, error[t] = mean_se(surprise[t - 2] - surprise[t - 1])
        truth[t] = kernel.step_entropy(x0, t).mean() + fallen
    return _in_bits(lower=lower, truth=truth, upper=upper, truth_se=error)


def swiss_roll_log_q(optimum: SwissRollOptimum, xt: Tensor, t: int) -> Tensor:
    """log q(x^t) in nats, (n, 2) to (n,), by the density of x^t/√ᾱ_t around the curve."""
    kernel = optimum.kernel
    alpha_bar, left = float(kernel.alpha_bar[t]), float(kernel.one_minus_alpha_bar[t])
    width = (left / alpha_bar + optimum.law.noise**2) ** 0.5
    parts = (xt / alpha_bar**0.5).split(2048)
    log_q = torch.cat([torch.logsumexp(optimum.log_joint(x, width)[1], 1) for x in parts])
    return log_q - torch.log(kernel.alpha_bar[t])  # two coordinates, each shrunk by √ᾱ_t


def _in_bits(**by_t: Tensor) -> dict:
    steps = {"t": list(range(2, len(by_t["lower"])))}
    return steps | {name: bits(value)[2:].tolist() for name, value in by_t.items()}


def schedules(profile: str, seed: int = 7) -> dict:
    """``schedules`` in reports/metrics/theory.json: K* on both toys. Raises ParameterError."""
    sizes, law, rows = sizes_of("schedules", profile), SwissRoll(NOISE), []
    heldout = law.sample(sizes["heldout"], seeded(seed))
    for name, beta in roll_schedules().items():
        kernel = GaussianKernel(beta)
        star = full_bound(kernel, SwissRollOptimum(kernel, law), heldout, seeded(seed + 2))
        rows.append({"schedule": name, "K_star": bits(star.K), "K_star_se": bits(star.se)})
    return {"swiss_roll": rows, "heartbeat": [heartbeat_row(T) for T in sizes["heartbeat"]]}


def roll_schedules() -> dict[str, Tensor]:
    """β_1..β_T of the swiss roll by name, T = 40, all with the same β_1, which is never learned."""
    inverse = inverse_schedule(T_ROLL + 1)[:T_ROLL]  # stopped before its β of one
    constant = torch.full_like(inverse, 1 - ALPHA_BAR_T ** (1 / T_ROLL))
    inverse[0] = constant[0] = BETA_1
    even = swiss_roll_chain().beta[1:]
    return {"even in log SNR": even, "1/(T−t+1)": inverse, "constant": constant}


def best_heartbeat_schedules(T: int) -> list[tuple[float, Tensor]]:
    """(K* in nats, β_1..β_T) where L-BFGS with the exact gradient ends, from two starts.

    Both end at the same K*, where β_1 is almost zero: the last reverse step (44) has no network.
    """

    def beta(free: Tensor) -> Tensor:
        # ᾱ falls by a softmax and ends above zero, because β_T = 1 has no gradient.
        alpha_bar = 1 - torch.cumsum(torch.softmax(free, 0), 0)[:-1]
        return 1 - alpha_bar / torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])

    def loss(values):
        free = torch.tensor(values, requires_grad=True)
        negative = -heartbeat_star(BinomialKernel(beta(free), PI), Heartbeat())
        return float(negative.detach()), torch.autograd.grad(negative, free)[0].numpy()

    ends = []
    for first in (-12.0, 0.0):
        start, options = [first, *[0.0] * (T - 1), -10.0], {"ftol": 0.0, "gtol": 1e-5}
        end = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        ends.append((-end.fun, beta(torch.from_numpy(end.x))))
    return ends


def heartbeat_row(T: int) -> dict:
    """K* of three schedules in bits per sequence: the paper's 1/(T−t+1), "small_first", the best.

    "small_first": a first step of 10⁻⁶, then steps that erase equal parts of the signal.
    """
    alpha_bar = torch.cat([torch.ones(1), torch.linspace(1, 0, T, dtype=torch.float64)])
    alpha_bar[1] = 1 - BETA_1
    _, best = max(best_heartbeat_schedules(T), key=lambda end: end[0])
    small_first = 1 - alpha_bar[1:] / alpha_bar[:-1]
    betas = {"inverse": schedule("inverse", T), "small_first": small_first, "best": best}
    stars = {name: heartbeat_star(BinomialKernel(b, PI), Heartbeat()) for name, b in betas.items()}
    return {"T": T} | {name: bits(float(star)) for name, star in stars.items()}
