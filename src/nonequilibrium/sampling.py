"""Trajectories of the forward and the reverse chain (4), (5), ending with the fixed last step (44)."""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.diffusion import Kernel


@torch.no_grad()
def forward_trajectory(kernel: Kernel, x0: Tensor, generator: torch.Generator, keep=None) -> dict[int, Tensor]:
    """One forward trajectory (3) from each example of x0 (n, event): {t: x^t} for the steps in ``keep`` (default all)."""
    keep = set(range(kernel.T + 1) if keep is None else keep)
    x, kept = x0, {0: x0}
    for t in range(1, kernel.T + 1):
        x = kernel.sample(kernel.q_step(x, t), generator)
        if t in keep:
            kept[t] = x
    return {t: kept[t] for t in sorted(keep)}


@torch.no_grad()
def reverse_trajectory(
    kernel: Kernel, model, shape, generator: torch.Generator, keep=None, mean: bool = False
) -> dict[int, Tensor]:
    """Reverse trajectories (5) from π: {t: x^t} for the steps in ``keep`` (default: all).

    shape: (n, event). model: parameters of p(x^{t−1}|x^t) from (x^t, t).
    mean: take the mean of the last step p(x^0|x^1) in place of a sample. It looks cleaner but is no sample of the
        model (Gaussian kernel only; for display).
    """
    keep = set(range(kernel.T + 1) if keep is None else keep)
    x = kernel.sample_pi(shape, generator, dtype=torch.float64)
    kept = {kernel.T: x}
    for t in range(kernel.T, 1, -1):
        x = kernel.sample(model(x, t), generator)
        if t - 1 in keep:
            kept[t - 1] = x
    edge = kernel.p_edge(x)
    kept[0] = edge.mean if mean else kernel.sample(edge, generator)
    return {t: kept[t] for t in sorted(keep)}


def sample(kernel: Kernel, model, shape, generator: torch.Generator, mean: bool = False) -> Tensor:
    """True samples of the model, (n, event); see ``reverse_trajectory``."""
    return reverse_trajectory(kernel, model, shape, generator, keep=[0], mean=mean)[0]
