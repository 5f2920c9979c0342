"""What each step of a thinned chain costs the bound, from one network evaluation per noise level:
with m and v the network's mean and variance of x^0 given x^t, the step from t to s of ``thin`` has,
with ρ = SNR_s − SNR_t and SNR_t = ᾱ_t/(1−ᾱ_t), so that a table by t and ρ has all its costs,

    KL( q(x^s|x^t,x^0) ‖ p(x^s|x^t) ) = ½ Σ [ log(1 + ρ v) + ρ ((x^0 − m)² − v)/(1 + ρ v) ].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.bound.bound import entropy_terms
from nonequilibrium.bound.checks import check_count, check_examples, checked
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.thinning import cheapest
from nonequilibrium.errors import BoundError


@dataclass(frozen=True)
class StepCosts:
    """E KL of a step that starts at x^t and gains ρ in signal-to-noise ratio, tabulated in nats.

    A chain with levels t_1 < … < t_n = T has the K of ``ends[t_1]`` less the KL of its steps.
    """

    t: Tensor  # (r,), rising from 2 to T
    log_rho: Tensor  # (c,), rising
    KL: Tensor  # (r, c), positive
    ends: Tensor  # (T + 1,)

    def pairs(self, kernel: GaussianKernel) -> Tensor:
        """What the step from t to s costs K, (s, t) in nats per example: (T + 1, T + 1), infinite
        where s ≥ t; row 0 is the last step, to x^0 (44). log KL is linear between the tabulated.
        """
        T, log_KL = kernel.T, self.KL.log()
        snr = (kernel.log_alpha_bar[1:] - kernel.one_minus_alpha_bar[1:].log()).exp()
        every = torch.arange(2, T + 1)
        row = torch.searchsorted(self.t, every, right=True).clamp(max=len(self.t) - 1)
        before = (row - 1).clamp(min=0)  # the same one where T = 2
        along = (every - self.t[before]) / (self.t[row] - self.t[before]).clamp(min=1)
        by_t = torch.lerp(log_KL[before], log_KL[row], along.double()[:, None])  # (T − 1, c)
        gain = (snr[:, None] - snr[None, 1:]).clamp(min=1e-300).log()  # (s, t)
        column = torch.searchsorted(self.log_rho, gain.contiguous()).clamp(1, len(self.log_rho) - 1)
        left, right = self.log_rho[column - 1], self.log_rho[column]
        where, along = torch.arange(T - 1).expand_as(column), (gain - left) / (right - left)
        KL = torch.lerp(by_t[where, column - 1], by_t[where, column], along).exp()
        cost = torch.full((T + 1, T + 1), torch.inf, dtype=torch.float64)
        cost[1:, 2:] = torch.where(torch.ones(T, T - 1, dtype=torch.bool).triu(), KL, torch.inf)
        cost[0, 1:] = -self.ends[1:]
        return cost

    def best(self, kernel: GaussianKernel, steps: list[int]) -> dict[int, tuple[list[int], float]]:
        """By number of steps: the levels by which K loses least, exact, and K, nats per example."""
        if not steps or min(steps) < 2 or max(steps) > kernel.T:
            raise BoundError(f"the numbers of steps are {steps}; all must be 2 to T = {kernel.T}")
        return {n: (kept, -K) for n, (kept, K) in cheapest(self.pairs(kernel), steps).items()}


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
    """The table of ``StepCosts`` from held-out examples x0 (n, event), ``block`` at once, by
    ``rows`` even t from 2 to T, all with the same noise, and ``columns`` ρ, even in log ρ.
    """
    x0, reverse = check_examples(kernel, x0), checked(kernel, reverse)
    rows, columns = check_count("rows", rows, 2), check_count("columns", columns, 2)
    snr = (kernel.log_alpha_bar[1:] - kernel.one_minus_alpha_bar[1:].log()).exp()  # at t = 1..T
    t = torch.linspace(2, kernel.T, min(rows, kernel.T - 1), dtype=torch.float64)
    t = t.round().long().unique()
    ends = -torch.diff(snr).max().clamp(max=-1e-12), snr[0]  # the smallest and the largest ρ
    low, high = (float(rho.log()) for rho in ends)
    log_rho = torch.linspace(low, high, columns, dtype=torch.float64)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    KL = torch.zeros(len(t), columns, dtype=torch.float64)
    for row, step in enumerate(t.tolist()):
        for x, frozen in zip(x0.split(block), noise.split(block), strict=True):
            steps = torch.full((len(x),), step)
            xt = kernel.sample(kernel.q_marginal(x, steps), noise=frozen)
            known = kernel.x0_given(reverse(xt, steps), xt, steps)
            v = known.var.expand_as(x).flatten()
            excess = (x - known.mean).square().flatten() - v
            for column, rho in enumerate(log_rho.exp().tolist()):
                terms = (1 + rho * v).log() + rho * excess / (1 + rho * v)
                KL[row, column] += 0.5 * terms.sum(dtype=torch.float64)
    # ``entropy_terms`` where the first step ends at s in place of 1. Cross entropies are linear in
    # squares of x^0: one example of mean squares has their mean.
    typical = x0.double().square().mean(0, keepdim=True).sqrt()
    levels = [max(s, 1) for s in range(kernel.T + 1)]  # 0 is void
    at = [kernel.cross_entropy_pi(typical, s) - kernel.entropy(typical, s) for s in levels]
    K = torch.cat(at) - at[0] + entropy_terms(kernel, x0.double()).mean()
    return StepCosts(t, log_rho, (KL / len(x0)).clamp(min=1e-12), K)
