"""What a schedule is worth in bits (2.4.1, footnote 2): fixed and learned ones, and the largest K*.

K* of a schedule is the limit of what training reaches with it. For the heartbeat K* is an exact
function of β, and its maximum is found. For the swiss roll K* is a mean over points, and a short
ascent of it ends near its start, above or below: the end is no maximum.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.optimize import minimize
from torch import Tensor

from nonequilibrium.bound.bound import Bound, bits, entropy_terms, full_bound, kl_terms
from nonequilibrium.bound.optimum import SwissRollOptimum, heartbeat_optimal_kl
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion import schedules as library
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.model.toys import PointsModel
from nonequilibrium.network.toys import RBFNetwork
from nonequilibrium.training.fit import Watch, fit
from replication.measure.metrics import seeded
from replication.settings.settings import profile as sizes_of
from replication.theory.theory import ALPHA_BAR_T, BETA_1, NOISE, PI, heartbeat_chain

T_ROLL = 40
EVEN, INVERSE, BEST = "even in log SNR", "1/(T−t+1)", "after ascent on K*"
# Schedules with which models are trained, β fixed or learned from there.
TRAINED = {EVEN: (False, True), INVERSE: (False, True), "constant": (), BEST: (False,)}


def schedules(profile: str, seed: int = 7) -> dict:
    """``schedules`` in reports/metrics/theory.json: both toys, bits. Raises ParameterError."""
    sizes = sizes_of("schedules", profile)
    rows = {"swiss_roll": roll_rows(sizes, seed)}
    rows["heartbeat"] = [heartbeat_row(T) for T in sizes["heartbeat"]]
    return {"train_steps": sizes["train"]} | rows


def roll_schedules() -> dict[str, Tensor]:
    """β_1..β_T of the swiss roll by name, T = 40, all with the same β_1, which is never learned."""
    inverse = library.inverse_schedule(T_ROLL + 1)[:T_ROLL]  # stopped before its β of one
    even = library.schedule("even_log_snr", T_ROLL, beta_1=BETA_1, alpha_bar_T=ALPHA_BAR_T)
    constant = torch.full_like(even, 1 - ALPHA_BAR_T ** (1 / T_ROLL))
    inverse[0] = constant[0] = BETA_1
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


class ScheduledRoll(PointsModel):
    """The swiss roll under the paper's network, with a given schedule, fixed or learned."""

    def __init__(self, beta: Tensor, learn: bool, steps: int, seed: int, network=RBFNetwork):
        sizes: dict[str, Any] = {"n_steps": len(beta), "train_steps": steps, "seed": seed}
        super().__init__(noise=NOISE, beta_1=BETA_1, learn_beta=learn, **sizes)
        self.schedule = (library.LearnedSchedule if learn else library.FixedSchedule)(beta)
        p = self.params
        self.network = network(self.kernel(), self.law, seeded(seed), units=p.units, width=p.width)


def trained(model: PointsModel, heldout: Tensor) -> tuple[Bound, GaussianKernel]:
    """The bound of held-out points after a short training of ``model``, and the chain by then."""
    p, watch = model.params, Watch("schedule", model.params.train_steps)
    fit(model, model.objective, model.groups(), p.train_steps, p.seed, watch=watch)
    with torch.no_grad():
        kernel = model.kernel()
        return full_bound(kernel, model.reverse(kernel), heldout, seeded(p.seed + 1)), kernel


def roll_rows(sizes: dict, seed: int) -> list[dict]:
    """K* of each schedule, and K of short trainings with it (``TRAINED``), bits per point."""
    law, given, rows = SwissRoll(NOISE), roll_schedules(), []
    heldout = law.sample(sizes["heldout"], seeded(seed))
    best = best_roll_schedule(given[EVEN], law, sizes["climb"], sizes["points"], seed + 1)
    for name, beta in (given | {BEST: best}).items():
        kernel = GaussianKernel(beta)
        star = full_bound(kernel, SwissRollOptimum(kernel, law), heldout, seeded(seed + 2))
        row = {"schedule": name, "K_star": bits(star.K), "K_star_se": bits(star.se)}
        row["beta"] = beta.tolist()
        for learn in TRAINED[name]:
            bound, chain = trained(ScheduledRoll(beta, learn, sizes["train"], seed), heldout)
            row["K_learned" if learn else "K_fixed"] = bits(bound.K)
            row |= {"beta_learned": chain.beta[1:].tolist()} if learn else {}
        rows.append(row)
    return rows


def heartbeat_star(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """K* in nats, exact and differentiable in β."""
    return entropy_terms(kernel, law.templates()[:1])[0] - heartbeat_optimal_kl(kernel, law).sum()


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
    law, alpha_bar = Heartbeat(), torch.ones(T + 1, dtype=torch.float64)
    alpha_bar[1:] = torch.linspace(1, 0, T, dtype=torch.float64)
    alpha_bar[1] = 1 - BETA_1
    _, best = max(best_heartbeat_schedules(T), key=lambda end: end[0])
    chains = {"inverse": heartbeat_chain(T)}
    chains["small_first"] = BinomialKernel(1 - alpha_bar[1:] / alpha_bar[:-1], PI)
    chains["best"] = BinomialKernel(best, PI)
    stars = {name: bits(float(heartbeat_star(kernel, law))) for name, kernel in chains.items()}
    signal = {f"alpha_bar_{name}": kernel.alpha_bar.tolist() for name, kernel in chains.items()}
    return {"T": T} | stars | signal
