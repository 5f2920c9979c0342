"""The lower bound K on the log likelihood (14), term by term, and the errors of its estimates.

All is in nats and per example until ``bits``; *kernel* and *reverse* are those of ``chain``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.bound import checks
from nonequilibrium.bound.proposals import draw
from nonequilibrium.diffusion.chain import Kernel, P, Reverse
from nonequilibrium.distributed import mine, total
from nonequilibrium.errors import BoundError


def bits(nats):
    """Nats to bits."""
    return nats / math.log(2)


def bits_per_dim(K_bits: float, dims: int, sigma: float) -> float:
    """The unit of later papers, log2 σ − K/dims: a cost per dimension of data on the 0..255 scale,
    from K per example (or pixel) of ``dims`` (3 of an RGB pixel), divided by σ on that scale.
    """
    if not (sigma > 0 and dims > 0):
        raise BoundError(f"sigma is {sigma} and dims is {dims}; both must be positive")
    return math.log2(sigma) - K_bits / dims


def mean_se(values: Tensor) -> tuple[float, float]:
    """Mean of values (n,) of independent examples and its standard error s/√n."""
    return float(values.mean()), float(values.std()) / len(values) ** 0.5


def block_se(values: Tensor, blocks: int = 50) -> float:
    """Standard error of the mean of values (n,) in the order of a file, by means of blocks."""
    parts = values.tensor_split(min(blocks, len(values)))
    return mean_se(torch.stack([part.double().mean() for part in parts]))[1]


@dataclass
class Bound:
    """An unbiased estimate of K by example and by time step, in nats: K = rest − Σ_t kl."""

    kl: Tensor  # (n, T + 1), E KL_t of each example, zero at t < 2
    rest: Tensor  # (n,), all other terms of K, exact
    replicates: Tensor  # (r, n), r estimates of each example's K

    @property
    def per_example(self) -> Tensor:
        """K of each example, nats, (n,)."""
        return self.rest - self.kl.sum(1)

    @property
    def K(self) -> float:
        """K averaged over the examples, nats."""
        return float(self.per_example.mean())

    @property
    def se(self) -> float:
        """Standard error of K over independent examples and Monte Carlo together, nats."""
        return mean_se(self.per_example)[1]

    @property
    def mc_se(self) -> float:
        """Standard error of K by Monte Carlo alone, given these examples, nats; r ≥ 2 replicates.
        Stratified draws are assumed independent, so that it is an upper bound for them. Two
        replicates tell it to 40 % for 5 examples, to 15 % for 50.
        """
        r, n = self.replicates.shape
        if r < 2:
            raise BoundError(f"the bound was estimated with {r} replicate; mc_se needs at least 2")
        return float((self.replicates.var(0).mean() / (r * n)).sqrt())


def entropy_terms(kernel: Kernel, x0: Tensor) -> Tensor:
    """All of K but the divergences, exact whatever the data: x0 (n, event) to (n,) nats.

    H_q(X^T|X^0) − H_q(X^1|X^0) + E_q[log π(x^T) + log π(x^0) − log π(x^1)]. The last bracket is
    −H_p(X^T) in (14); the two agree if E[x²] = 1 (Gaussian) or the mean rate is π (binomial).
    """
    T, H, cross = kernel.T, kernel.entropy, kernel.cross_entropy_pi  # cross: −E_q log π(x^t)
    return H(x0, T) - H(x0, 1) - cross(x0, T) - cross(x0, 0) + cross(x0, 1)


def kl_terms(
    kernel: Kernel[P], reverse: Reverse[P], x0: Tensor, t: Tensor, generator=None, noise=None
) -> Tensor:
    """KL( q(x^{t−1}|x^t,x^0) ‖ p(x^{t−1}|x^t) ) of (14) at one draw of x^t per example.

    x0: (*t.shape, ..., event). t: in 2..T. noise: frozen noise of x^t, like x0. Returns nats,
    (*t.shape, ...), differentiable also in β.
    """
    xt = kernel.sample(kernel.q_marginal(x0, t), generator, noise)
    return kernel.kl(kernel.q_posterior(x0, xt, t), reverse(xt, t))


@torch.no_grad()
def full_bound(
    kernel: Kernel[P],
    reverse: Reverse[P],
    x0: Tensor,
    generator: torch.Generator,
    replicates: int = 1,
    control: tuple[Reverse[P], Tensor] | None = None,
    block: int = 32768,
    noisier_share: float = 0.0,
) -> Bound:
    """K (14) by all terms of the sum over t = 2..T, with a draw of x^t per example and step.

    x0: (n, event) held-out data. block: at most about this many (example, step) pairs at once.
    control: (optimum, E KL* for t = 0..T in nats), a control variate: KL* at the same x^t, whose
        expectation is exact for every example, leaves only the difference from it to chance.
    noisier_share: part of the draws of x^t that has more noise, weighted (see ``draw``).
    Raises BoundError for data, a reverse or a setting for which K has no meaning.
    """
    reverse, x0, noise = checks.check_chain(kernel, reverse, x0, generator)
    replicates, n = checks.check_count("replicates", replicates), len(x0)
    optimum, expected = checks.check_control(kernel, control)
    kl = torch.zeros(replicates, n, kernel.T + 1, dtype=torch.float64)
    for r in range(replicates):
        for number, steps in enumerate(torch.arange(2, kernel.T + 1).split(max(1, block // n))):
            t, x = steps, x0.expand(len(steps), *x0.shape)
            if kernel.event_dim > 1:  # each image has its own t, a block of points has one
                t, x = steps.repeat_interleave(n), x.flatten(0, 1)
            xt, weight = draw(kernel, x, t, noise, noisier_share)
            if not mine(number):
                continue  # all processes draw all noise, so that K does not depend on their number
            q = kernel.q_posterior(x, xt, t)
            terms = (weight * kernel.kl(q, reverse(xt, t))).double()
            if optimum is not None:
                terms = terms - weight * kernel.kl(q, optimum(xt, t))
            terms = terms.reshape(len(steps), n).cpu() + expected[steps, None]
            kl[r, :, steps] = terms.T
    kl, rest = total(kl), entropy_terms(kernel, x0).double().cpu()
    return Bound(kl.mean(0), rest, rest - kl.sum(2))


def systematic(draws: int, n: int, generator: torch.Generator) -> Tensor:
    """Numbers on [0, 1) that cover it evenly, one grid shuffled: (draws, n) float64."""
    offset = torch.rand((), generator=generator).double()
    grid = (torch.arange(n * draws, dtype=torch.float64) + offset) / (n * draws)
    return grid[torch.randperm(n * draws, generator=generator)].reshape(draws, n)


@torch.no_grad()
def sampled_bound(
    kernel: Kernel[P],
    reverse: Reverse[P],
    x0: Tensor,
    generator: torch.Generator,
    draws: int,
    proposal: Tensor | tuple[Tensor, Tensor] | None = None,
    stratified: bool = True,
    replicates: int = 2,
    block: int = 128,
) -> Bound:
    """K (14) by ``draws`` steps t per example in place of all T − 1; unbiased.

    proposal: (T + 1,) weights by which t is drawn, see ``proposal_from``; None is uniform. A pair
        (weights, typical) leaves to chance only the difference of KL_t from ``typical``, (T + 1,).
    stratified: all draws together cover the proposal evenly; if False, they are independent.
    block: examples at once, by which memory is bounded.
    Raises BoundError for data, a reverse or a setting for which K has no meaning.
    """
    reverse, x0, noise = checks.check_chain(kernel, reverse, x0, generator)
    replicates, n = checks.check_count("replicates", replicates), len(x0)
    weight, typical = checks.check_proposal(kernel, proposal)
    draws = checks.check_count("draws", draws)
    kl = torch.zeros(replicates, n, kernel.T + 1, dtype=torch.float64)
    for r in range(replicates):
        if stratified:
            u = systematic(draws, n, generator)
        else:
            u = torch.rand(draws, n, generator=generator, dtype=torch.float64)
        for steps in torch.searchsorted(weight.cumsum(0), u, right=True).clamp(2, kernel.T):
            for number, part in enumerate(torch.arange(n).split(block)):
                # Of points a block has one t, so that each point is a block of its own.
                x, t = x0[part, None] if kernel.event_dim == 1 else x0[part], steps[part]
                xt = kernel.sample(kernel.q_marginal(x, t), noise)
                if not mine(number):
                    continue  # as in ``full_bound``
                terms = kernel.kl(kernel.q_posterior(x, xt, t), reverse(xt, t))
                terms = terms.double().reshape(len(part)).cpu() - typical[t]
                kl[r, part, t] += terms / (weight[t] * draws)
    kl = total(kl).add_(typical)
    rest = torch.cat([entropy_terms(kernel, part).double().cpu() for part in x0.split(block)])
    return Bound(kl.mean(0), rest, rest - kl.sum(2))


def L_null(kernel: Kernel, x0: Tensor) -> Tensor:
    """Log likelihood of the data under π, (n,) nats: a model that learned nothing (Table 1)."""
    return kernel.log_pi(checks.check_examples(kernel, x0, least=1))
