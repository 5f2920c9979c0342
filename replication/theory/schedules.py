"""What a schedule is worth in bits (2.4.1, footnote 2): fixed ones, learned ones, and the best
there is, on the toys.

K* of a schedule is the limit of what training can reach with it, so the schedule of the largest K*
is the limit of what learning β can reach. Gradient ascent finds it. For the swiss roll the gradient
of K* in β is that of K with the optimal reverse held fixed, because K does not change to first
order where its optimum does. For the heartbeat K* is an exact function of β, which autograd
differentiates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound, bits, entropy_terms, full_bound, kl_terms
from nonequilibrium.bound.optimum import SwissRollOptimum, heartbeat_optimal_kl
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.diffusion.schedules import (
    FixedSchedule,
    LearnedSchedule,
    inverse_schedule,
    schedule,
)
from nonequilibrium.model.toys import PointsModel
from nonequilibrium.network.toys import RBFNetwork
from nonequilibrium.training.fit import Watch, fit
from replication.measure.metrics import seeded
from replication.settings import settings
from replication.settings.params import PointsParams
from replication.theory.theory import ALPHA_BAR_T, BETA_1, NOISE, PI, heartbeat_chain

T_ROLL = 40
EVEN, INVERSE, BEST = "even in log SNR", "1/(T−t+1)", "after ascent on K*"
# Which schedules are trained with, β fixed and learned from there.
TRAINED = {EVEN: (False, True), INVERSE: (False, True), "constant": (), BEST: (False,)}


def roll_schedules() -> dict[str, Tensor]:
    """β_1..β_T of the swiss roll by name, T = 40, all with the same β_1, which is never learned."""
    inverse = inverse_schedule(T_ROLL + 1)[:T_ROLL]  # the binomial's, stopped before its β of one
    inverse[0] = BETA_1
    even = schedule("even_log_snr", T_ROLL, beta_1=BETA_1, alpha_bar_T=ALPHA_BAR_T)
    constant = torch.full_like(even, 1 - ALPHA_BAR_T ** (1 / T_ROLL))
    constant[0] = BETA_1
    return {EVEN: even, INVERSE: inverse, "constant": constant}


def schedules(profile: str, seed: int = 7) -> dict:
    """Both toys' schedules; ``schedules`` in reports/metrics/theory.json, bits. Raises
    ParameterError for another profile.
    """
    its = settings.profile("schedules", profile)
    return {
        "train_steps": its["train"],
        "swiss_roll": roll_rows(its, seed),
        "heartbeat": [heartbeat_row(T, its["steps"]) for T in its["heartbeat"]],
    }


# ---------------------------------------------------------------- swiss roll


def star_gradient(beta: Tensor, law: SwissRoll, x0: Tensor, noise: Tensor) -> tuple[float, Tensor]:
    """K* in nats and its gradient in β_1..β_T, (T,), at these points and frozen noise (T − 1, n,
    2).
    """
    optimum = SwissRollOptimum(
        GaussianKernel(beta.detach()), law
    )  # held fixed: a function of x^t and t alone
    beta = beta.detach().requires_grad_()
    kernel, t = GaussianKernel(beta), torch.arange(2, len(beta) + 1)
    kl = kl_terms(kernel, optimum, x0.expand(len(t), *x0.shape), t, noise=noise)
    K = entropy_terms(kernel, x0).mean() - kl.sum(0).mean()
    return float(K.detach()), torch.autograd.grad(K, beta)[0]


def best_roll_schedule(beta: Tensor, law: SwissRoll, steps: int, points: int, seed: int) -> Tensor:
    """β_1..β_T of the largest K* by gradient ascent over β_2..β_T from ``beta``, fresh points at
    every step.
    """
    random, free = seeded(seed), torch.logit(beta[1:]).clone().requires_grad_()
    ascent = torch.optim.Adam([free], lr=0.1)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(ascent, steps, eta_min=1e-3)
    for _ in range(steps):
        now = torch.cat([beta[:1], torch.sigmoid(free)])
        x0 = law.sample(points, random)
        noise = torch.randn(len(beta) - 1, points, 2, generator=random, dtype=torch.float64)
        _, slope = star_gradient(now, law, x0, noise)
        free.grad = None
        now.backward(-slope)
        ascent.step()
        decay.step()
    return torch.cat([beta[:1], torch.sigmoid(free.detach())])


class ScheduledPoints(PointsModel):
    """A law of points under the swiss roll's network, with a schedule that is given, fixed or
    learned from there.
    """

    def __init__(self, params: PointsParams, beta: Tensor, law):
        super().__init__(law=law, **vars(params))
        self.schedule = LearnedSchedule(beta) if params.learn_beta else FixedSchedule(beta)
        self.network = RBFNetwork(
            self.kernel(), self.law, seeded(params.seed), units=params.units, width=params.width
        )


def params_of(beta: Tensor, learn: bool, steps: int, seed: int) -> PointsParams:
    """Parameters of the paper's network with T = len(beta), for a short training."""
    return PointsParams(
        noise=NOISE,
        n_steps=len(beta),
        beta_1=BETA_1,
        learn_beta=learn,
        train_steps=steps,
        seed=seed,
    )


def trained(model: PointsModel, heldout: Tensor) -> tuple[Bound, GaussianKernel]:
    """The bound of held-out points after a short training of ``model``, and the chain at its end."""
    p = model.params
    watch = Watch("schedule", p.train_steps)
    fit(model, model.objective, model.groups(), p.train_steps, p.seed, watch=watch)
    with torch.no_grad():
        kernel = model.kernel()
        return full_bound(kernel, model.reverse(kernel), heldout, seeded(p.seed + 1)), kernel


def roll_rows(its: dict, seed: int) -> list[dict]:
    """K* of each schedule, and K of short trainings with β fixed to it or learned from it
    (``TRAINED``); bits a point.
    """
    law = SwissRoll(NOISE)
    heldout, rows = law.sample(its["heldout"], seeded(seed)), []
    given = roll_schedules()
    best = best_roll_schedule(given[EVEN], law, its["climb"], its["points"], seed + 1)
    for name, beta in (given | {BEST: best}).items():
        kernel = GaussianKernel(beta)
        star = full_bound(kernel, SwissRollOptimum(kernel, law), heldout, seeded(seed + 2))
        row: dict[str, Any] = {"schedule": name, "K_star": bits(star.K), "K_star_se": bits(star.se)}
        row["beta"] = beta.tolist()
        for learn in TRAINED[name]:
            model = ScheduledPoints(params_of(beta, learn, its["train"], seed), beta, SwissRoll)
            bound, chain = trained(model, heldout)
            row["K_learned" if learn else "K_fixed"] = bits(bound.K)
            row |= {"beta_learned": chain.beta[1:].tolist()} if learn else {}
        rows.append(row)
    return rows


# ---------------------------------------------------------------- heartbeat


def heartbeat_star(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """K* in nats, exact and differentiable in β."""
    return entropy_terms(kernel, law.templates()[:1])[0] - heartbeat_optimal_kl(kernel, law).sum()


def small_first_step(T: int) -> Tensor:
    """β_1..β_T of the heartbeat with a first step that hardly touches the data; the others erase
    equal parts of the signal.
    """
    alpha_bar = torch.cat(
        [torch.ones(1, dtype=torch.float64), torch.linspace(1, 0, T, dtype=torch.float64)]
    )
    alpha_bar[1] = 1 - BETA_1
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


def heartbeat_row(T: int, steps: int) -> dict:
    """K* of the paper's 1/(T−t+1), of a small first step, and of the best schedule by its gradient,
    bits a sequence.
    """
    law = Heartbeat()
    # ᾱ falls by a softmax, so that it ends at almost nothing whatever the parameters are: β_T = 1
    # has no gradient.
    free = torch.zeros(T + 1, dtype=torch.float64)
    free[0], free[-1] = -12.0, -10.0
    free.requires_grad_()

    def beta() -> Tensor:
        alpha_bar = 1 - torch.cumsum(torch.softmax(free, 0), 0)[:-1]
        return 1 - alpha_bar / torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])

    ascent = torch.optim.Adam([free], lr=0.05)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(ascent, steps, eta_min=1e-3)
    for _ in range(steps):
        ascent.zero_grad()
        (-heartbeat_star(BinomialKernel(beta(), PI), law)).backward()
        ascent.step()
        decay.step()
    with torch.no_grad():
        chains = {
            "inverse": heartbeat_chain(T),
            "small_first": BinomialKernel(small_first_step(T), PI),
            "best": BinomialKernel(beta(), PI),
        }
        stars = {name: bits(float(heartbeat_star(kernel, law))) for name, kernel in chains.items()}
    alpha_bar = {f"alpha_bar_{name}": kernel.alpha_bar.tolist() for name, kernel in chains.items()}
    return {"T": T} | stars | alpha_bar
