"""Where the paper, the authors' published program and this one part ways, each difference in bits
on the toys.

Differences of the bound itself are exact or nearly so. Those of the model come from short trainings
of the swiss roll's network, all of equally many steps from one seed: they say what a choice is
worth early in training, not at its end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.bound.bound import L_null, bits, entropy_terms, entropy_terms_eq14, full_bound
from nonequilibrium.bound.optimum import SwissRollOptimum
from nonequilibrium.data.toys import Heartbeat, PointLaw, SwissRoll
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel, Normal
from nonequilibrium.diffusion.schedules import inverse_schedule, reference_schedule
from nonequilibrium.network.outputs import PARAMETERISATIONS
from nonequilibrium.network.toys import RBFNetwork
from replication.measure.metrics import seeded
from replication.settings import settings
from replication.theory.schedules import (
    EVEN,
    T_ROLL,
    ScheduledPoints,
    heartbeat_star,
    params_of,
    roll_schedules,
    trained,
)
from replication.theory.theory import NOISE, PI

MINIBATCH = 128


class DirectNetwork(RBFNetwork):
    """The swiss roll's network with z^μ and z^Σ turned to μ and Σ as for images, by one of
    ``network.outputs``.
    """

    def __init__(
        self, mean: str, kernel: GaussianKernel, units: int, law: PointLaw, width: float, generator
    ):
        super().__init__(kernel, law, generator, units=units, width=width)
        self.parameterisation = PARAMETERISATIONS[mean]

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Normal:
        phi = self.rbf((xt / kernel.at(kernel.alpha_bar.sqrt(), t, xt)).to(self.skip.dtype))
        z_mu, z_sigma = (readout(phi, t).to(xt.dtype) for readout in (self.mean, self.log_var))
        return self.parameterisation(kernel, xt, t, z_mu, z_sigma)


def variant(beta: Tensor, mean: str, steps: int, seed: int) -> ScheduledPoints:
    """The swiss roll with a fixed schedule, and z^μ and z^Σ turned to μ and Σ by ``mean``."""
    model = ScheduledPoints(params_of(beta, False, steps, seed), beta, SwissRoll)
    p = model.params
    model.network = DirectNetwork(mean, model.kernel(), p.units, model.law, p.width, seeded(p.seed))
    return model


def differences(profile: str, seed: int = 7) -> dict:
    """A row a difference; ``differences`` in reports/metrics/theory.json, bits. Raises
    ParameterError for another profile.
    """
    its, law = settings.profile("differences", profile), SwissRoll(NOISE)
    heldout, even = law.sample(its["heldout"], seeded(seed)), roll_schedules()[EVEN]
    ours, sum_kl = K_of(even, None, its["train"], seed, heldout)
    rows = bound_rows(GaussianKernel(even), heldout, ours, sum_kl)
    rows += model_rows(even, ours, its["train"], seed, heldout)
    return {
        "train_steps": its["train"],
        "rows": [*rows, scale_row(law, seed), *heartbeat_rows(its["T"])],
    }


def _row(what: str, data: str, here: str, there: str, values: tuple[float, float], **more) -> dict:
    return {
        "what": what,
        "data": data,
        "here": here,
        "there": there,
        "K": values[0],
        "K_there": values[1],
        **more,
    }


def bound_rows(kernel: GaussianKernel, heldout: Tensor, K: float, sum_kl: float) -> list[dict]:
    """What the bound's own terms are worth: K is that of a short training, ``sum_kl`` its sum over
    t of KL_t, both in bits.
    """
    off = bits(float((entropy_terms_eq14(kernel, heldout) - entropy_terms(kernel, heldout)).mean()))
    many = K - sum_kl / (kernel.T - 1)  # T terms in place of T − 1
    return [
        _row("terms of π in K", "swiss roll", "exact", "−H_p(X^T), as (14)", (K, K + off)),
        _row("sum over t", "swiss roll", "T − 1 terms", "T times their mean", (K, many)),
    ]


def model_rows(even: Tensor, K: float, steps: int, seed: int, heldout: Tensor) -> list[dict]:
    """What the schedule and the mean are worth, in equal trainings."""
    reference = reference_schedule(T_ROLL)
    star = {}
    for name, beta in (("K_star", even), ("K_star_there", reference)):
        kernel = GaussianKernel(beta)
        star[name] = bits(
            full_bound(
                kernel, SwissRollOptimum(kernel, SwissRoll(NOISE)), heldout[:1000], seeded(1)
            ).K
        )
    there, _ = K_of(reference, None, steps, seed, heldout)
    rows = [
        _row("schedule", "swiss roll", "even in log SNR", "1/linspace(T, 2)", (K, there), **star)
    ]
    for mean, name in (
        ("paper", "(x − z)(1 − Σ) + z, as (65)"),
        ("reference", "x√(1−β) + z√β, the program's"),
    ):
        there, _ = K_of(even, mean, steps, seed, heldout)
        rows.append(_row("mean", "swiss roll", "of q(x^{t−1}|x^t, x̂⁰)", name, (K, there)))
    return rows


def K_of(
    beta: Tensor, mean: str | None, steps: int, seed: int, heldout: Tensor
) -> tuple[float, float]:
    """K and the sum of KL_t on held-out points after a short training, bits.

    mean: as in ``variant``; None keeps this program's estimate of x^0.
    """
    if mean is None:
        model = ScheduledPoints(params_of(beta, False, steps, seed), beta, SwissRoll)
    else:
        model = variant(beta, mean, steps, seed)
    bound, _ = trained(model, heldout)
    return bits(bound.K), bits(float(bound.kl.sum(1).mean()))


def scale_row(law: SwissRoll, seed: int) -> dict:
    """By how much K moves if data are divided by the deviation of one minibatch: its standard
    deviation over minibatches.
    """
    x = law.sample(2000 * MINIBATCH, seeded(seed + 2)).reshape(2000, MINIBATCH, law.dim)
    scale = x.std((1, 2), correction=0) / x.std(correction=0)
    moved = bits(float(law.dim * torch.log(scale).std()))
    return _row(
        "scale of the data",
        "swiss roll",
        "training set",
        f"a minibatch of {MINIBATCH}",
        (0.0, moved),
        spread=True,
    )


def heartbeat_rows(T: int) -> list[dict]:
    """π of Table App.1 and of D.1.2: K* and L_null, exact."""
    law = Heartbeat()
    kernels = [BinomialKernel(inverse_schedule(T), pi) for pi in (PI, 0.5)]
    star = [bits(float(heartbeat_star(kernel, law))) for kernel in kernels]
    null = [bits(float(L_null(kernel, law.templates()).mean())) for kernel in kernels]
    values = star[0], star[1]
    return [
        _row(
            f"π, K* at T = {T}",
            "heartbeat",
            "0.2",
            "0.5",
            values,
            L_null=null[0],
            L_null_there=null[1],
        )
    ]
