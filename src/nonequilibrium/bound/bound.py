"""The lower bound K on the log likelihood, term by term (equations 9 to 14), and what it is
measured against.

Everything is in nats and per example until ``bits``. With the exact cross entropies to π,

    K = −Σ_{t=2..T} E_q KL( q(x^{t−1}|x^t,x^0) ‖ p(x^{t−1}|x^t) )
        + H_q(X^T|X^0) − H_q(X^1|X^0) + E_q[ log π(x^T) + log π(x^0) − log π(x^1) ],

which is a lower bound whatever the data. Equation (14) writes −H_p(X^T) for the bracket; the two
are equal when E[x²] = 1 in every coordinate (Gaussian) or the mean rate is π (binomial).

A *reverse* gives the parameters of p(x^{t−1}|x^t) when called with (x^t, t) for t ≥ 2, see
``diffusion.chain``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.bound.checks import (
    check_control,
    check_count,
    check_examples,
    check_proposal,
    check_typical,
    checked,
    noise_generator,
)
from nonequilibrium.bound.tails import check_share, draw
from nonequilibrium.diffusion.chain import Kernel, P, Reverse
from nonequilibrium.errors import BoundError
from nonequilibrium.training.distributed import mine, total


def bits(nats):
    """Nats to bits."""
    return nats / math.log(2)


def bits_per_dim(K_bits: float, dims: int, sigma: float) -> float:
    """The unit of later papers, log2 σ − K/dims: a cost per dimension of data on the 0..255 scale.

    K_bits: the bound in bits per example (or per pixel), of data divided by σ. dims: dimensions of
    that unit (3 for an RGB pixel). sigma: standard deviation on the 0..255 scale by which the data
    was divided.
    """
    if not (sigma > 0 and dims > 0):
        raise BoundError(f"sigma is {sigma} and dims is {dims}; both must be positive")
    return math.log2(sigma) - K_bits / dims


def mean_se(values):
    """The mean of values (n,) and its standard error, if the values are independent."""
    return float(values.mean()), float(values.std()) / len(values) ** 0.5


def block_se(values: Tensor, blocks: int = 50) -> float:
    """Standard error of the mean of values (n,) that stand in an order: from the means of
    contiguous blocks.

    Where neighbours are alike, as in a test file that has easy examples first, σ/√n is too small;
    means of long blocks still are nearly independent.
    """
    means = torch.stack(
        [part.double().mean() for part in values.tensor_split(min(blocks, len(values)))]
    )
    return float(means.std() / math.sqrt(len(means)))


@dataclass
class Bound:
    """K by example and by time step.

    kl: (n, T + 1) nats; column t holds an unbiased estimate of E KL_t for each example, columns 0
    and 1 are zero.
    rest: (n,) nats; every other term of K, exact.
    replicates: (r, n) nats; the r independent estimates of each example's K that ``kl`` averages.
    """

    kl: Tensor
    rest: Tensor
    replicates: Tensor

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
        """Standard error of K over examples and Monte Carlo together, nats, if the examples are
        independent.
        """
        return float(self.per_example.std() / math.sqrt(len(self.rest)))

    @property
    def se_blocks(self) -> float:
        """The same for examples that stand in an order, such as a test file's, nats; see
        ``block_se``.
        """
        return block_se(self.per_example)

    @property
    def mc_se(self) -> float:
        """Standard error of the estimator alone, given these examples, nats; needs at least two
        replicates.
        """
        r, n = self.replicates.shape
        if r < 2:
            raise BoundError(f"the bound was estimated with {r} replicate; mc_se needs at least 2")
        return float((self.replicates.var(0).mean() / (r * n)).sqrt())


def entropy_terms(kernel: Kernel, x0: Tensor) -> Tensor:
    """All of K but the divergences, exact: H_q(X^T|X^0) − H_q(X^1|X^0) + E[log π(x^T) + log π(x^0)
    − log π(x^1)].

    x0: (n, event). Returns (n,) nats.
    """
    T = kernel.T
    return (
        kernel.entropy(x0, T)
        - kernel.entropy(x0, 1)
        - kernel.cross_entropy_pi(x0, T)
        - kernel.cross_entropy_pi(x0, 0)
        + kernel.cross_entropy_pi(x0, 1)
    )


def entropy_terms_eq14(kernel: Kernel, x0: Tensor) -> Tensor:
    """The same terms as (14) has them: H_q(X^T|X^0) − H_q(X^1|X^0) − H_p(X^T), (n,) nats."""
    return kernel.entropy(x0, kernel.T) - kernel.entropy(x0, 1) - kernel.entropy_pi(x0)


def kl_terms(
    kernel: Kernel[P],
    reverse: Reverse[P],
    x0: Tensor,
    t: Tensor,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """KL( q(x^{t−1}|x^t,x^0) ‖ p(x^{t−1}|x^t) ) at one draw of x^t each; differentiable, also in β.

    x0: (*t.shape, ..., event). t: steps in 2..T. noise: frozen noise for the draw of x^t, shaped
    like x0. Returns nats, x0's shape without its event axes.
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
    """K with every term of the sum over t = 2..T, a fresh x^t for each example, step and replicate.

    x0: (n, event) held-out data. block: at most about this many (example, step) pairs at once.
    control: (optimum, E KL* for t = 0..T in nats), where the expectation is exact for every
        example. KL* at the same x^t then serves as a control variate: only the small difference
        between reverse and optimum is left to chance.
    noisier_share: part of the draws of x^t that comes from more noise, weighted (see ``tails``).
    Raises BoundError for data, a reverse or a setting for which K has no meaning.
    """
    x0 = check_examples(kernel, x0)
    replicates, block = check_count("replicates", replicates), check_count("block", block)
    share, reverse = check_share(noisier_share), checked(kernel, reverse)
    known = None if control is None else check_control(kernel, control)
    noise = noise_generator(generator, x0.device)
    n = len(x0)
    kl = torch.zeros(replicates, n, kernel.T + 1, dtype=torch.float64)
    for r in range(replicates):
        for number, t in enumerate(torch.arange(2, kernel.T + 1).split(max(1, block // n))):
            each, x = t, x0.expand(len(t), *x0.shape)
            if kernel.event_dim > 1:  # images go one a step, points in blocks
                each, x = t.repeat_interleave(n), x.flatten(0, 1)
            xt, weight = draw(kernel, x, each, noise, share)
            if not mine(number):
                continue  # every process draws all the noise, so that no term depends on how many they are
            posterior = kernel.q_posterior(x, xt, each)
            terms = (
                (weight * kernel.kl(posterior, reverse(xt, each))).double().reshape(len(t), n).cpu()
            )
            if known is not None:
                optimum, expected = known
                terms = (
                    terms
                    - (weight * kernel.kl(posterior, optimum(xt, each))).reshape(len(t), n).cpu()
                )
                terms = terms + expected[t][:, None]
            kl[r, :, t] = terms.T
    kl, rest = total(kl), entropy_terms(kernel, x0).double().cpu()
    return Bound(kl.mean(0), rest, rest - kl.sum(2))


@torch.no_grad()
def sampled_bound(
    kernel: Kernel[P],
    reverse: Reverse[P],
    x0: Tensor,
    generator: torch.Generator,
    draws: int,
    proposal: Tensor | None = None,
    stratified: bool = True,
    replicates: int = 2,
    block: int = 32768,
    typical: Tensor | None = None,
) -> Bound:
    """K with ``draws`` steps t an example in place of all T − 1; unbiased.

    proposal: (T + 1,) weights by which t is drawn, zero at t < 2; uniform over 2..T if None.
        Weights in proportion to the root mean square of KL_t (see ``pilot_proposal``) give the
        least variance.
    typical: (T + 1,) nats, about what KL_t is for any example, from other data. Only the difference
        from it is then left to chance, and weights in proportion to the root mean square of that
        difference give the least variance.
    stratified: the draws of all examples together cover the proposal evenly (one systematic grid,
        shuffled over the examples), in place of independent draws.
    Raises BoundError for data, a reverse or a setting for which K has no meaning.
    """
    x0, weight = check_examples(kernel, x0), check_proposal(kernel, proposal)
    draws, replicates, block = (
        check_count(name, value)
        for name, value in {"draws": draws, "replicates": replicates, "block": block}.items()
    )
    reverse, noise, n = checked(kernel, reverse), noise_generator(generator, x0.device), len(x0)
    about, cumulative = check_typical(kernel, typical), torch.cumsum(weight, 0)
    kl = torch.zeros(replicates, n, kernel.T + 1, dtype=torch.float64)
    for r in range(replicates):
        if stratified:
            grid = (
                torch.arange(n * draws, dtype=torch.float64)
                + torch.rand((), generator=generator).double()
            )
            u = (grid / (n * draws))[torch.randperm(n * draws, generator=generator)].reshape(
                draws, n
            )
        else:
            u = torch.rand(draws, n, generator=generator, dtype=torch.float64)
        for row in torch.searchsorted(cumulative, u, right=True).clamp(2, kernel.T):
            for number, part in enumerate(torch.arange(n).split(block)):
                t = row[part]
                # One step an example: toy networks take blocks of points, so each example is a
                # block of its own.
                x = x0[part, None] if kernel.event_dim == 1 else x0[part]
                if not mine(number):
                    kernel.sample(
                        kernel.q_marginal(x, t), noise
                    )  # another process has these, which draws the same
                    continue
                terms = kl_terms(kernel, reverse, x, t, noise).double().reshape(len(part)).cpu()
                kl[r, part, t] += (terms - about[t]) / (weight[t] * draws)
    kl = total(kl).add_(about)
    rest = torch.cat(
        [entropy_terms(kernel, part).double().cpu() for part in x0.split(block)]
    )  # bounds the memory
    return Bound(kl.mean(0), rest, rest - kl.sum(2))


def L_null(kernel: Kernel, x0: Tensor) -> Tensor:
    """Log likelihood of the data under π, (n,) nats: what a model that learned nothing gives (Table
    1).
    """
    return kernel.log_pi(check_examples(kernel, x0, least=1))
