"""How often each step t is drawn where K is estimated by a few of them (``sampled_bound``)."""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound


def pilot_proposal(bound: Bound, floor: float = 0.1) -> Tensor:
    """``proposal_from`` the mean squares of a pilot ``full_bound``."""
    return proposal_from(bound.kl.square().mean(0), floor)


def proposal_from(mean_square: Tensor, floor: float) -> Tensor:
    """Weights (T + 1,) in proportion to the root of the mean square of KL_t, (T + 1,).

    floor: the uniform part, from 0 to 1, which bounds the variance where a pilot saw nothing.
    """
    rms = mean_square.sqrt()
    uniform = torch.ones_like(rms)
    uniform[:2] = rms[:2] = 0
    return (1 - floor) * rms / rms.sum() + floor * uniform / uniform.sum()
