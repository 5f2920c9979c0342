"""The Parzen window estimate of Table 2 (Goodfellow et al. 2014): the mean log, in nats, of the
density that Gaussians of width σ on samples make; σ is the best on a validation set.
"""

import math

import numpy as np
import torch
from torch import Tensor

from nonequilibrium.bound.bound import block_se, mean_se
from nonequilibrium.bound.checks import REAL
from nonequilibrium.errors import BoundError

GRID = np.logspace(-1, 0, 10)  # of σ, for data in [0, 1]


@torch.no_grad()
def log_density(x: Tensor, samples: Tensor, sigma: float, block: int = 1000) -> Tensor:
    """log (1/m) Σ_i N(x; s_i, σ² I), nats: x (n, d), samples (m, d), to (n,)."""
    m, d = samples.shape
    result = []
    for part in x.split(block):
        distance = torch.cdist(part, samples, compute_mode="use_mm_for_euclid_dist")
        result.append(torch.logsumexp(-distance.square().double() / (2 * sigma**2), 1))
    return torch.cat(result) - math.log(m) - d / 2 * math.log(2 * math.pi * sigma**2)


def parzen(samples: Tensor, validation: Tensor, test: Tensor) -> dict:
    """{"mean", "se", "se_blocks", "sigma"}: mean log density of ``test`` in nats and its errors by
    the test images alone, independent or in the order of a file. All data: (·, d) in [0, 1].
    """
    for name, rows in {"samples": samples, "validation": validation, "test": test}.items():
        least = 2 if name == "test" else 1
        fits = rows.dtype == samples.dtype in REAL and rows.dim() == 2 and len(rows) >= least
        if not fits or rows.shape[1] != samples.shape[-1] or not torch.isfinite(rows).all():
            shape = f"{name} has shape {tuple(rows.shape)} and dtype {rows.dtype}"
            raise BoundError(f"{shape}; it must be at least {least} finite rows like the samples")
    scores = [float(log_density(validation, samples, float(sigma)).mean()) for sigma in GRID]
    sigma = float(GRID[int(np.argmax(scores))])
    values = log_density(test, samples, sigma)
    mean, se = mean_se(values)
    return {"mean": mean, "se": se, "se_blocks": block_se(values), "sigma": sigma}


def in_unit_interval(pixels: Tensor, levels: int) -> Tensor:
    """Images (n, c, h, w) of uint8 grey levels as rows of [0, 1]^d, float32."""
    return pixels.flatten(1).float() / (levels - 1)
