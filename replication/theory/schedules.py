"""What a schedule is worth in bits (2.4.1, footnote 2): K*, the limit of what training reaches.

For the heartbeat K* is an exact function of β, and its maximum is found.
"""

from __future__ import annotations

import torch
from scipy.optimize import minimize
from torch import Tensor

from nonequilibrium.bound.bound import bits, full_bound
from nonequilibrium.bound.optimum import SwissRollOptimum
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import inverse_schedule
from replication.measure.metrics import seeded
from replication.settings.settings import profile as sizes_of
from replication.theory import theory
from replication.theory.theory import ALPHA_BAR_T, BETA_1, NOISE, PI, heartbeat_star

T_ROLL = 40


def schedules(profile: str, seed: int = 7) -> dict:
    """``schedules`` in reports/metrics/theory.json: K* on both toys. Raises ParameterError."""
    sizes = sizes_of("schedules", profile)
    heartbeat = [heartbeat_row(T) for T in sizes["heartbeat"]]
    return {"swiss_roll": roll_rows(sizes["heldout"], seed), "heartbeat": heartbeat}


def roll_schedules() -> dict[str, Tensor]:
    """β_1..β_T of the swiss roll by name, T = 40, all with the same β_1, which is never learned."""
    inverse = inverse_schedule(T_ROLL + 1)[:T_ROLL]  # stopped before its β of one
    constant = torch.full_like(inverse, 1 - ALPHA_BAR_T ** (1 / T_ROLL))
    inverse[0] = constant[0] = BETA_1
    even = theory.swiss_roll_chain(T_ROLL).beta[1:]
    return {"even in log SNR": even, "1/(T−t+1)": inverse, "constant": constant}


def roll_rows(points: int, seed: int) -> list[dict]:
    """K* of each schedule, bits per point."""
    law, rows = SwissRoll(NOISE), []
    heldout = law.sample(points, seeded(seed))
    for name, beta in roll_schedules().items():
        kernel = GaussianKernel(beta)
        star = full_bound(kernel, SwissRollOptimum(kernel, law), heldout, seeded(seed + 2))
        rows.append({"schedule": name, "K_star": bits(star.K), "K_star_se": bits(star.se)})
    return rows


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
