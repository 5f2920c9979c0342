"""Where the paper, the authors' published program and this one differ, each in bits on the toys.

Differences of the bound itself are exact or nearly so. Those of the model come from short trainings
of the swiss roll's network, all of equally many steps from one seed: they say what a choice is
worth early in training, not at its end.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from nonequilibrium.bound.bound import L_null, bits, entropy_terms, entropy_terms_eq14, full_bound
from nonequilibrium.bound.optimum import SwissRollOptimum
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel, Normal
from nonequilibrium.diffusion.schedules import inverse_schedule, reference_schedule
from nonequilibrium.network.outputs import PARAMETERISATIONS
from nonequilibrium.network.toys import RBFNetwork
from replication.measure.metrics import seeded
from replication.settings.settings import profile as sizes_of
from replication.theory import schedules as toys
from replication.theory.theory import NOISE, PI

MINIBATCH = 128
MEANS = {"paper": "(x − z)(1 − Σ) + z, as (65)", "reference": "x√(1−β) + z√β, the program's"}


class DirectNetwork(RBFNetwork):
    """The swiss roll's network with z^μ and z^Σ turned to μ and Σ as for images, by ``mean``."""

    def __init__(self, *options, mean: str, **settings):
        super().__init__(*options, **settings)
        self.parameterisation = PARAMETERISATIONS[mean]

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Normal:
        phi = self.rbf((xt / kernel.at(kernel.alpha_bar.sqrt(), t, xt)).to(self.skip.dtype))
        z_mu, z_sigma = (readout(phi, t).to(xt.dtype) for readout in (self.mean, self.log_var))
        return self.parameterisation(kernel, xt, t, z_mu, z_sigma)


def differences(profile: str, seed: int = 7) -> dict:
    """``differences`` in reports/metrics/theory.json, a row each, bits. Raises ParameterError."""
    sizes, law = sizes_of("differences", profile), SwissRoll(NOISE)
    rows = roll_rows(sizes["train"], seed, law.sample(sizes["heldout"], seeded(seed)))
    # By how much K moves if data are divided by the deviation of one minibatch.
    x = law.sample(2000 * MINIBATCH, seeded(seed + 2)).reshape(2000, MINIBATCH, law.dim)
    scale = x.std((1, 2), correction=0) / x.std(correction=0)
    moved, there = bits(float(law.dim * torch.log(scale).std())), f"a minibatch of {MINIBATCH}"
    rows.append(_row("scale of the data", "training set", there, 0.0, moved, spread=True))
    rows.append(heartbeat_row(sizes["T"]))
    return {"train_steps": sizes["train"], "rows": rows}


def _row(what: str, here: str, there: str, K: float, K_there: float, **more) -> dict:
    row = {"what": what, "data": "swiss roll", "here": here, "there": there}
    return row | {"K": K, "K_there": K_there} | more


def roll_rows(steps: int, seed: int, heldout: Tensor) -> list[dict]:
    """What the terms of the bound, the schedule and the mean are worth, in equal trainings."""

    def K_of(beta: Tensor, network=RBFNetwork) -> tuple[float, float]:
        bound, _ = toys.trained(toys.ScheduledRoll(beta, False, steps, seed, network), heldout)
        return bits(bound.K), bits(float(bound.kl.sum(1).mean()))

    def star(kernel: GaussianKernel) -> float:
        optimum = SwissRollOptimum(kernel, SwissRoll(NOISE))
        return bits(full_bound(kernel, optimum, heldout[:1000], seeded(1)).K)

    even, reference = toys.roll_schedules()[toys.EVEN], reference_schedule(toys.T_ROLL)
    kernel, (K, sum_kl), (there, _) = GaussianKernel(even), K_of(even), K_of(reference)
    off = bits(float((entropy_terms_eq14(kernel, heldout) - entropy_terms(kernel, heldout)).mean()))
    many = K - sum_kl / (kernel.T - 1)  # T terms in place of T − 1
    stars = {"K_star": star(kernel), "K_star_there": star(GaussianKernel(reference))}
    rows = [
        _row("terms of π in K", "exact", "−H_p(X^T), as (14)", K, K + off),
        _row("sum over t", "T − 1 terms", "T times their mean", K, many),
        _row("schedule", "even in log SNR", "1/linspace(T, 2)", K, there, **stars),
    ]
    for mean, name in MEANS.items():
        there, _ = K_of(even, partial(DirectNetwork, mean=mean))
        rows.append(_row("mean", "of q(x^{t−1}|x^t, x̂⁰)", name, K, there))
    return rows


def heartbeat_row(T: int) -> dict:
    """π of Table App.1 and of D.1.2: K* and L_null, exact."""
    law = Heartbeat()
    kernels = [BinomialKernel(inverse_schedule(T), pi) for pi in (PI, 0.5)]
    star = [bits(float(toys.heartbeat_star(kernel, law))) for kernel in kernels]
    null = [bits(float(L_null(kernel, law.templates()).mean())) for kernel in kernels]
    row = _row(f"π, K* at T = {T}", "0.2", "0.5", *star, L_null=null[0], L_null_there=null[1])
    return row | {"data": "heartbeat"}
