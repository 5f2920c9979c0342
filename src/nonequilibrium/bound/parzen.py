"""The Parzen window estimate of Table 2, by the published protocol (Goodfellow et al. 2014).

An isotropic Gaussian of width σ on each sample makes a density; σ is the one of a log-spaced grid
with the highest mean log density on a validation set; the figure is the mean log density of the
test set. Everything in nats.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.bound.bound import block_se
from nonequilibrium.bound.checks import REAL
from nonequilibrium.errors import BoundError

GRID = np.logspace(-1, 0, 10)  # of σ, for data in [0, 1]


@torch.no_grad()
def log_density(x: Tensor, samples: Tensor, sigma: float, block: int = 1000) -> Tensor:
    """log (1/m) Σ_i N(x; s_i, σ² I), nats: x (n, d), samples (m, d), to (n,)."""
    m, d = samples.shape
    result = []
    for part in x.split(block):
        squares = (
            torch.cdist(part, samples, compute_mode="use_mm_for_euclid_dist").square().double()
        )
        result.append(torch.logsumexp(-squares / (2 * sigma**2), 1))
    return torch.cat(result) - math.log(m) - d / 2 * math.log(2 * math.pi * sigma**2)


def parzen(samples: Tensor, validation: Tensor, test: Tensor, grid=GRID) -> dict:
    """The estimate: {"mean", "se", "se_blocks", "sigma"}; mean and its standard errors over
    ``test`` in nats.

    samples, validation, test: (·, d) in [0, 1]. sigma is chosen on ``validation``. Both errors are
    of the test images alone: another set of samples of the same model gives another mean, which
    they do not know of. ``se`` takes the test images for independent, ``se_blocks`` for a file in
    some order (see ``block_se``). Raises BoundError for what are no rows of finite real numbers.
    """
    for name, value in {"samples": samples, "validation": validation, "test": test}.items():
        least, shape = (2 if name == "test" else 1), tuple(value.shape)
        fits = value.dtype in REAL and value.dtype == samples.dtype and value.dim() == 2
        fits = fits and value.shape[1] == samples.shape[-1]
        if not fits or len(value) < least or not torch.isfinite(value).all():
            raise BoundError(
                f"{name} has shape {shape} and dtype {value.dtype}; it must be finite real numbers, one row an image, "
                f"at least {least}"
            )
    grid = [float(s) for s in grid]
    if not grid or not all(0 < s < math.inf for s in grid):
        raise BoundError(f"the grid of σ is {grid}; it must hold positive numbers")
    scores = [float(log_density(validation, samples, s).mean()) for s in grid]
    sigma = grid[int(np.argmax(scores))]
    values = log_density(test, samples, sigma)
    se = float(values.std()) / math.sqrt(len(values))
    return {"mean": float(values.mean()), "se": se, "se_blocks": block_se(values), "sigma": sigma}


def in_unit_interval(pixels: Tensor, levels: int) -> Tensor:
    """Images (n, c, h, w) of uint8 grey levels as rows of [0, 1]^d, float32."""
    return pixels.flatten(1).float() / (levels - 1)


def centroids(train: Tensor, k: int, seed: int) -> Tensor:
    """k centroids of k-means on the training images, (k, d): no samples of anything, to show what
    the estimate rewards.
    """
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(
        k, init="random", n_init=1, batch_size=5 * k, max_iter=5, random_state=seed
    )
    return torch.from_numpy(means.fit(train.numpy()).cluster_centers_).float()
