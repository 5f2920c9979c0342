"""The terms of the average in (9), one a forward trajectory, and what averages of n of them are
worth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nonequilibrium.bound.checks import check_count, check_examples, checked, noise_generator
from nonequilibrium.diffusion.chain import Kernel, P, Reverse
from nonequilibrium.errors import BoundError


@torch.no_grad()
def log_ratios(
    kernel: Kernel[P],
    reverse: Reverse[P],
    x0: Tensor,
    trajectories: int,
    generator: torch.Generator,
) -> Tensor:
    """log of p(x^{0..T})/q(x^{1..T}|x^0) for forward trajectories from each example, the terms of
    (8) and (9).

    x0: (n, event). Returns (trajectories, n) nats. Their mean over trajectories is an estimate of K
    of each example (12); the log of the mean of their exponentials is one of log p(x^0) (9). Draws
    are those of ``theory.jarzynski``. Raises BoundError.
    """
    x0, trajectories = (
        check_examples(kernel, x0, least=1),
        check_count("trajectories", trajectories),
    )
    reverse, generator = checked(kernel, reverse), noise_generator(generator, x0.device)
    x = x0.expand(trajectories, *x0.shape)
    previous = kernel.sample(kernel.q_step(x, 1), generator)
    # At the edge p(x^0|x^1)/q(x^1|x^0) = π(x^0)/π(x^1) (44).
    log_ratio = kernel.log_pi(x) - kernel.log_pi(previous)
    for t in range(2, kernel.T + 1):
        forward = kernel.q_step(previous, t)
        xt = kernel.sample(forward, generator)
        log_ratio = (
            log_ratio + kernel.log_prob(previous, reverse(xt, t)) - kernel.log_prob(xt, forward)
        )
        previous = xt
    return log_ratio + kernel.log_pi(previous)


def estimates(log_ratio: Tensor, n: int) -> Tensor:
    """Independent estimates of log p(x^0) by n trajectories each: (trajectories, examples) to
    (trajectories // n, examples), nats.

    The expectation of each lies between K, which it is at n = 1, and log p(x^0), to which it rises
    with n.
    """
    if not 1 <= n <= len(log_ratio):
        raise BoundError(
            f"n is {n}; it must be from 1 to the {len(log_ratio)} trajectories that there are"
        )
    groups = log_ratio[: len(log_ratio) // n * n].reshape(-1, n, log_ratio.shape[1])
    return torch.logsumexp(groups, 1) - math.log(n)


def effective_sample_size(log_ratio: Tensor) -> Tensor:
    """1/Σ w² over the normalised weights w ∝ exp(log_ratio): (trajectories, n) to (n,), from 1 to
    the number of trajectories.
    """
    return 1 / torch.softmax(log_ratio, 0).square().sum(0)
