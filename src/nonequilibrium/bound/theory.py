"""The other relations of the paper: the Jarzynski average (9) and the entropy bounds (24)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nonequilibrium.bound.checks import check_examples
from nonequilibrium.bound.trajectories import log_ratios
from nonequilibrium.diffusion.chain import Kernel, P, Reverse


@torch.no_grad()
def jarzynski(
    kernel: Kernel[P],
    reverse: Reverse[P],
    x0: Tensor,
    trajectories: int,
    generator: torch.Generator,
) -> Tensor:
    """log of the average in (9) over forward trajectories, (n,) nats per example.

    In expectation at least K, rising with ``trajectories`` towards log p(x^0), and never above it.
    """
    log_ratio = log_ratios(kernel, reverse, check_examples(kernel, x0), trajectories, generator)
    return torch.logsumexp(log_ratio, 0) - math.log(trajectories)


def reverse_entropy_bounds(kernel: Kernel, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper bound (24) on H_q(X^{t−1}|X^t), for t = 0..T; two (T + 1,) tensors, nats, NaN
    at t < 2.

    Averaged over the data x0 (n, event); analytic. The upper bound holds when π is the
    maximum-entropy law for the data: unit variance for the Gaussian kernel.
    """
    x0 = check_examples(kernel, x0, least=1)
    lower = torch.full((kernel.T + 1,), math.nan, dtype=torch.float64)
    upper = lower.clone()
    for t in range(2, kernel.T + 1):
        step = kernel.step_entropy(x0, t).mean()
        lower[t] = step + (kernel.entropy(x0, t - 1) - kernel.entropy(x0, t)).mean()
        upper[t] = step
    return lower, upper
