"""What a schedule (2.4.1, footnote 2) and other choices of the paper are worth, in bits.

K* of a schedule is the limit of what training reaches with it. For the heartbeat K* is an exact
function of β, and its maximum is found. For the swiss roll K* is a mean over points, and a short
ascent of it ends near its start, above or below: the end is no maximum.
"""

from __future__ import annotations

import torch
from scipy.optimize import minimize
from torch import Tensor

from nonequilibrium.bound.bound import bits, entropy_terms, entropy_terms_eq14, full_bound, kl_terms
from nonequilibrium.bound.optimum import SwissRollOptimum
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion import schedules as library
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.model.toys import PointsModel
from nonequilibrium.training.fit import fit
from replication.measure.metrics import seeded
from replication.settings.settings import profile as sizes_of
from replication.theory import theory
from replication.theory.theory import ALPHA_BAR_T, BETA_1, NOISE, PI, heartbeat_star

T_ROLL, MINIBATCH = 40, 128
EVEN, INVERSE, BEST = "even in log SNR", "1/(T−t+1)", "after ascent on K*"


def schedules(profile: str, seed: int = 7) -> dict:
    """``schedules`` in reports/metrics/theory.json: K* on both toys. Raises ParameterError."""
    sizes = sizes_of("schedules", profile)
    heartbeat = [heartbeat_row(T) for T in sizes["heartbeat"]]
    return {"swiss_roll": roll_rows(sizes, seed), "heartbeat": heartbeat}


# ---------------------------------------------------------------- the swiss roll


def roll_schedules() -> dict[str, Tensor]:
    """β_1..β_T of the swiss roll by name, T = 40, all with the same β_1, which is never learned."""
    inverse = library.inverse_schedule(T_ROLL + 1)[:T_ROLL]  # stopped before its β of one
    constant = torch.full_like(inverse, 1 - ALPHA_BAR_T ** (1 / T_ROLL))
    inverse[0] = constant[0] = BETA_1
    even = theory.swiss_roll_chain(T_ROLL).beta[1:]
    return {EVEN: even, INVERSE: inverse, "constant": constant}


def star_gradient(beta: Tensor, law: SwissRoll, x0: Tensor, noise: Tensor) -> tuple[float, Tensor]:
    """K* in nats and its gradient in β_1..β_T, at points x0 (n, 2) and noise (T − 1, n, 2).

    The optimal reverse is held fixed: K does not change with it to first order.
    """
    optimum = SwissRollOptimum(GaussianKernel(beta.detach()), law)
    beta = beta.detach().requires_grad_()
    kernel, t = GaussianKernel(beta), torch.arange(2, len(beta) + 1)
    kl = kl_terms(kernel, optimum, x0.expand(len(t), *x0.shape), t, noise=noise)
    K = entropy_terms(kernel, x0).mean() - kl.sum(0).mean()
    return float(K.detach()), torch.autograd.grad(K, beta)[0]


def best_roll_schedule(beta: Tensor, law: SwissRoll, steps: int, points: int, seed: int) -> Tensor:
    """β_1..β_T after ascent on K* over β_2..β_T from ``beta``, with fresh points at every step."""
    random, free = seeded(seed), torch.logit(beta[1:]).clone().requires_grad_()
    ascent = torch.optim.Adam([free], lr=0.1)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(ascent, steps, eta_min=1e-3)
    for _ in range(steps):
        now, x0 = torch.cat([beta[:1], torch.sigmoid(free)]), law.sample(points, random)
        noise = torch.randn(len(beta) - 1, points, 2, generator=random, dtype=torch.float64)
        free.grad = None
        now.backward(-star_gradient(now, law, x0, noise)[1])
        ascent.step()
        decay.step()
    return torch.cat([beta[:1], torch.sigmoid(free.detach())])


def roll_star(beta: Tensor, points: Tensor, seed: int) -> dict[str, float]:
    """K* of the schedule β_1..β_T on ``points`` and its standard error, bits."""
    kernel = GaussianKernel(beta)
    bound = full_bound(kernel, SwissRollOptimum(kernel, SwissRoll(NOISE)), points, seeded(seed))
    return {"K_star": bits(bound.K), "K_star_se": bits(bound.se)}


def roll_rows(sizes: dict, seed: int) -> list[dict]:
    """K* of each schedule, bits per point."""
    law, given = SwissRoll(NOISE), roll_schedules()
    heldout = law.sample(sizes["heldout"], seeded(seed))
    given[BEST] = best_roll_schedule(given[EVEN], law, sizes["climb"], sizes["points"], seed + 1)
    names = given.items()
    return [{"schedule": name} | roll_star(beta, heldout, seed + 2) for name, beta in names]


# ---------------------------------------------------------------- the heartbeat


def best_heartbeat_schedules(T: int) -> list[tuple[float, Tensor]]:
    """(K* in nats, β_1..β_T) where L-BFGS with the exact gradient ends, from two starts.

    The starts are small_first of ``heartbeat_row`` and equal steps of ᾱ. Both end at the same K*,
    where β_1 is almost zero: the last reverse step (44) has no network.
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
    small_first = BinomialKernel(1 - alpha_bar[1:] / alpha_bar[:-1], PI)
    _, best = max(best_heartbeat_schedules(T), key=lambda end: end[0])
    chains = {"inverse": theory.heartbeat_chain(T), "small_first": small_first}
    chains["best"] = BinomialKernel(best, PI)
    stars = {name: heartbeat_star(kernel, Heartbeat()) for name, kernel in chains.items()}
    return {"T": T} | {name: bits(float(star)) for name, star in stars.items()}


# ---------------------------------------------------------------- paper, program, this project


def differences(profile: str, seed: int = 7) -> dict:
    """``differences`` in reports/metrics/theory.json: each choice alone. Raises ParameterError.

    The first two rows come from a short training of the swiss roll's network.
    """
    sizes, law = sizes_of("differences", profile), SwissRoll(NOISE)
    heldout = law.sample(sizes["heldout"], seeded(seed))
    model = PointsModel(noise=NOISE, learn_beta=False, train_steps=sizes["train"], seed=seed)
    fit(model, model.objective, model.groups(), sizes["train"], seed)
    kernel = model.kernel()
    with torch.no_grad():
        bound = full_bound(kernel, model.reverse(kernel), heldout, seeded(seed + 1))
    K, sum_kl = bits(bound.K), bits(float(bound.kl.sum(1).mean()))
    printed = entropy_terms_eq14(kernel, heldout) - entropy_terms(kernel, heldout)
    betas = kernel.beta[1:], library.reference_schedule(T_ROLL)
    star, star_there = (roll_star(beta, heldout[:1000], 1)["K_star"] for beta in betas)
    # By how much K moves if data are divided by the deviation of one minibatch.
    x = law.sample(2000 * MINIBATCH, seeded(seed + 2)).reshape(2000, MINIBATCH, law.dim)
    scale = x.std((1, 2), correction=0) / x.std(correction=0)
    moved, there = bits(float(law.dim * torch.log(scale).std())), f"a minibatch of {MINIBATCH}"
    beats = [BinomialKernel(library.inverse_schedule(sizes["T"]), pi) for pi in (PI, 0.5)]
    beat, beat_there = (bits(float(heartbeat_star(kernel, Heartbeat()))) for kernel in beats)
    off, many = bits(float(printed.mean())), sum_kl / (T_ROLL - 1)  # T terms in place of T − 1
    rows = [
        _row("terms of π in K", "exact", "−H_p(X^T), as (14)", K=K, K_there=K + off),
        _row("sum over t", "T − 1 terms", "T times their mean", K=K, K_there=K - many),
        _row("schedule", EVEN, "1/linspace(T, 2)", K_star=star, K_star_there=star_there),
        _row("scale of the data", "training set", there, K=0.0, K_there=moved),
        _row(f"π, K* at T = {sizes['T']}", "0.2", "0.5", K=beat, K_there=beat_there),
    ]
    return {"rows": [*rows[:-1], rows[-1] | {"data": "heartbeat"}]}


def _row(what: str, here: str, there: str, **numbers: float) -> dict:
    return {"what": what, "data": "swiss roll", "here": here, "there": there} | numbers
