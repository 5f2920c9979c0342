"""The other relations of the paper: the Jarzynski average (9) and the entropy bounds (24)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nonequilibrium.bound.checks import check_count, check_examples, checked, noise_generator
from nonequilibrium.diffusion.chain import Kernel, P, Reverse


@torch.no_grad()
def jarzynski(
    kernel: Kernel[P], reverse: Reverse[P], x0: Tensor, trajectories: int, generator: torch.Generator
) -> Tensor:
    """log of the average in (9) over forward trajectories, (n,) nats per example.

    In expectation at least K, rising with ``trajectories`` towards log p(x^0), and never above it.
    """
    x0, trajectories = check_examples(kernel, x0), check_count("trajectories", trajectories)
    reverse, generator = checked(kernel, reverse), noise_generator(generator, x0.device)
    x = x0.expand(trajectories, *x0.shape)
    # At the edge p(x^0|x^1)/q(x^1|x^0) = π(x^0)/π(x^1) (44).
    x1 = kernel.sample(kernel.q_step(x, 1), generator)
    log_ratio, previous = kernel.log_pi(x) - kernel.log_pi(x1), x1
    for t in range(2, kernel.T + 1):
        forward = kernel.q_step(previous, t)
        xt = kernel.sample(forward, generator)
        log_ratio = log_ratio + kernel.log_prob(previous, reverse(xt, t)) - kernel.log_prob(xt, forward)
        previous = xt
    log_ratio = log_ratio + kernel.log_pi(previous)
    return torch.logsumexp(log_ratio, 0) - math.log(trajectories)


def reverse_entropy_bounds(kernel: Kernel, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bound (24) on H_q(X^{t−1}|X^t), for t = 0..T; two (T + 1,) tensors, nats, NaN at t < 2.

    Averaged over the data x0 (n, event); analytic. The upper bound holds when π is the maximum-entropy law for
    the data: unit variance for the Gaussian kernel.
    """
    x0 = check_examples(kernel, x0, least=1)
    lower = torch.full((kernel.T + 1,), math.nan, dtype=torch.float64)
    upper = lower.clone()
    for t in range(2, kernel.T + 1):
        step = kernel.step_entropy(x0, t).mean()
        lower[t] = step + (kernel.entropy(x0, t - 1) - kernel.entropy(x0, t)).mean()
        upper[t] = step
    return lower, upper
