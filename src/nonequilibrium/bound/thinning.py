"""What a step of a thinned chain costs the bound, for every pair of noise levels, from one
evaluation of the network a level.

With m and v the network's mean and variance of x^0 given x^t, the step from t to s of
``diffusion.thinning.thin`` has

    KL( q(x^s|x^t,x^0) ‖ p(x^s|x^t) ) = ½ Σ_i [ log(1 + ρ v_i) + ρ ((x^0_i − m_i)² − v_i)/(1 + ρ
    v_i) ],    ρ = SNR_s − SNR_t,

with SNR_t = ᾱ_t/(1−ᾱ_t): variances and means of both are linear in ᾱ_s, and all else cancels. So
the divergence of each of the T²/2 pairs follows from a function of t and of the one number ρ, which
is tabulated here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.bound.bound import entropy_terms
from nonequilibrium.bound.checks import check_count, check_examples, checked
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.thinning import cheapest, path
from nonequilibrium.errors import BoundError


@dataclass(frozen=True)
class StepCosts:
    """E KL of a step that starts at x^t and gains ρ in signal-to-noise ratio, tabulated.

    t: (r,) rising steps from 2 to T. log_rho: (c,) rising. KL: (r, c) nats per example, float64;
    positive.
    ends: (T + 1,) nats per example; all of K that depends on where the chain's first step ends, so
    that K of a chain with levels t_1 < … < t_n = T is ``ends[t_1]`` less the divergences of its
    steps.
    """

    t: Tensor
    log_rho: Tensor
    KL: Tensor
    ends: Tensor

    def pairs(self, kernel: GaussianKernel) -> Tensor:
        """What the step between s and t costs K, nats per example: (T + 1, T + 1), infinite where s
        ≥ t.

        Row 0 is the last step of the chain, to x^0, which is fixed (44). Between tabulated values
        log KL is linear in t and log ρ.
        """
        T, log_KL = kernel.T, self.KL.log()
        every = torch.arange(2, T + 1)
        row = torch.searchsorted(self.t, every, right=True).clamp(max=len(self.t) - 1)
        before = (row - 1).clamp(min=0)  # the same one where T = 2
        along = (every - self.t[before]) / (self.t[row] - self.t[before]).clamp(min=1)
        by_t = torch.lerp(log_KL[before], log_KL[row], along.double()[:, None])  # (T − 1, c)
        snr = (kernel.log_alpha_bar[1:] - kernel.one_minus_alpha_bar[1:].log()).exp()  # at t = 1..T
        gain = (snr[:, None] - snr[None, 1:]).clamp(min=1e-300).log()  # (s, t)
        column = torch.searchsorted(self.log_rho, gain.contiguous()).clamp(1, len(self.log_rho) - 1)
        left, right = self.log_rho[column - 1], self.log_rho[column]
        where = torch.arange(T - 1).expand_as(column)
        KL = torch.lerp(
            by_t[where, column - 1], by_t[where, column], (gain - left) / (right - left)
        ).exp()
        cost = torch.full((T + 1, T + 1), torch.inf, dtype=torch.float64)
        cost[1:, 2:] = torch.where(torch.ones(T, T - 1, dtype=torch.bool).triu(), KL, torch.inf)
        cost[0, 1:] = -self.ends[1:]
        return cost

    def best(self, kernel: GaussianKernel, steps: list[int]) -> dict[int, tuple[list[int], float]]:
        """For each number of steps the levels by which K loses least, exactly, and K of that chain,
        nats per example.
        """
        if not steps or min(steps) < 2 or max(steps) > kernel.T:
            raise BoundError(
                f"the numbers of steps are {steps}; each must be a whole number from 2 to T = {kernel.T}"
            )
        least, before = cheapest(self.pairs(kernel), max(steps))
        return {n: (path(before, n), -float(least[n, -1])) for n in steps}


def _ends(kernel: GaussianKernel, x0: Tensor) -> Tensor:
    """What ``entropy_terms`` is where the first step ends at s in place of 1: mean over x0, (T +
    1,) nats; index 0 has no meaning.
    """
    whole = entropy_terms(kernel, x0.double()).mean()
    # The cross entropies are linear in the squares of x^0, so that one example with their means
    # stands for all.
    typical = x0.double().square().mean(0, keepdim=True).sqrt()
    at = [
        float((kernel.cross_entropy_pi(typical, s) - kernel.entropy(typical, s)).mean())
        for s in range(1, kernel.T + 1)
    ]
    return torch.tensor([at[0], *at], dtype=torch.float64) - at[0] + whole


@torch.no_grad()
def step_costs(
    kernel: GaussianKernel,
    reverse: Reverse[Normal],
    x0: Tensor,
    generator: torch.Generator,
    rows: int = 100,
    columns: int = 128,
    block: int = 32,
) -> StepCosts:
    """The table of ``StepCosts`` from examples x0 (n, event) that the model was not trained on.

    rows: how many t are tabulated, evenly spaced from 2 to T; the network is evaluated rows × n
        times. The noise of x^t is the same at each t, so that the table is smooth in t. columns:
        how many ρ, evenly spaced in log ρ over all that occur.
    block: examples at once. Raises BoundError for data or a reverse for which the bound has no
    meaning.
    """
    x0, reverse = check_examples(kernel, x0), checked(kernel, reverse)
    rows, columns, block = (
        check_count(*pair, 2) for pair in (("rows", rows), ("columns", columns), ("block", block))
    )
    t = (
        torch.linspace(2, kernel.T, min(rows, kernel.T - 1), dtype=torch.float64)
        .round()
        .long()
        .unique()
    )
    snr = (kernel.log_alpha_bar[1:] - kernel.one_minus_alpha_bar[1:].log()).exp()
    smallest = -torch.diff(snr).max().clamp(max=-1e-12)
    log_rho = torch.linspace(
        float(smallest.log()), float(snr[0].log()), columns, dtype=torch.float64
    )
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    KL = torch.zeros(len(t), columns, dtype=torch.float64)
    for row, step in enumerate(t.tolist()):
        for some, its in zip(x0.split(block), noise.split(block), strict=True):
            each = torch.full((len(some),), step)
            xt = kernel.sample(kernel.q_marginal(some, each), noise=its)
            known = kernel.x0_given(reverse(xt, each), xt, each)
            v = known.var.expand_as(some).flatten()
            excess = (some - known.mean).square().flatten() - v
            for column, rho in enumerate(log_rho.exp().tolist()):
                wide = 1 + rho * v
                KL[row, column] += 0.5 * float(
                    (wide.log() + rho * excess / wide).sum(dtype=torch.float64)
                )
    return StepCosts(t, log_rho, (KL / len(x0)).clamp(min=1e-12), _ends(kernel, x0))
