"""The paper's other relations: averages over forward trajectories (8) to (12), brackets (24)."""

import math

import torch
from torch import Generator, Tensor

from nonequilibrium.bound.checks import check_chain, check_count, check_examples
from nonequilibrium.diffusion.chain import Kernel, P, Reverse
from nonequilibrium.errors import BoundError


@torch.no_grad()
def log_ratios(
    kernel: Kernel[P], reverse: Reverse[P], x0: Tensor, trajectories: int, generator: Generator
) -> Tensor:
    """log p(x^{0..T})/q(x^{1..T}|x^0) of forward trajectories from each x^0, as in (8) and (9):
    (trajectories, n) nats. Their mean estimates K (12), that of their exponentials p(x^0) (9).
    """
    reverse, x0, noise = check_chain(kernel, reverse, x0, generator, least=1)
    x = x0.expand(check_count("trajectories", trajectories), *x0.shape)
    previous = kernel.sample(kernel.q_step(x, 1), noise)
    # At the edge p(x^0|x^1)/q(x^1|x^0) = π(x^0)/π(x^1) (44).
    log_ratio = kernel.log_pi(x) - kernel.log_pi(previous)
    for t in range(2, kernel.T + 1):
        q = kernel.q_step(previous, t)
        xt = kernel.sample(q, noise)
        log_ratio = log_ratio + kernel.log_prob(previous, reverse(xt, t)) - kernel.log_prob(xt, q)
        previous = xt
    return log_ratio + kernel.log_pi(previous)


def estimates(log_ratio: Tensor, n: int) -> Tensor:
    """log p(x^0) by n trajectories each, nats: (trajectories, examples) to (trajectories // n,
    examples). The expectation rises from K at n = 1 towards log p(x^0) (11).
    """
    if not 1 <= n <= len(log_ratio):
        raise BoundError(f"n is {n}; it must be from 1 to the {len(log_ratio)} trajectories")
    groups = log_ratio[: len(log_ratio) // n * n].reshape(-1, n, log_ratio.shape[1])
    return torch.logsumexp(groups, 1) - math.log(n)


def effective_sample_size(log_ratio: Tensor) -> Tensor:
    """1/Σ w² of the normalised weights w ∝ exp(log_ratio), (trajectories, n) to (n,)."""
    return 1 / torch.softmax(log_ratio, 0).square().sum(0)


def jarzynski(
    kernel: Kernel[P], reverse: Reverse[P], x0: Tensor, trajectories: int, generator: Generator
) -> Tensor:
    """log of the average (9) over forward trajectories, (n,) nats: from K to log p(x^0) in mean."""
    x0 = check_examples(kernel, x0)
    return estimates(log_ratios(kernel, reverse, x0, trajectories, generator), trajectories)[0]


def reverse_entropy_bounds(kernel: Kernel, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bound (24) on H_q(X^{t−1}|X^t), (T + 1,) nats each, NaN at t < 2, averaged
    over data x0 (n, event). The upper needs π to be the maximum-entropy law for the data: unit
    variance for the Gaussian kernel.
    """
    x0 = check_examples(kernel, x0, least=1)
    lower, upper = torch.full((2, kernel.T + 1), math.nan, dtype=torch.float64)
    for t in range(2, kernel.T + 1):
        upper[t] = kernel.step_entropy(x0, t).mean()
        lower[t] = upper[t] + (kernel.entropy(x0, t - 1) - kernel.entropy(x0, t)).mean()
    return lower, upper
