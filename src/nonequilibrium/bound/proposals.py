"""How often each step t is drawn where K is estimated from a few of them, see
``bound.sampled_bound``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound
from nonequilibrium.errors import BoundError


def pilot_proposal(bound: Bound, floor: float = 0.1) -> Tensor:
    """``proposal_from`` the mean squares of a pilot ``full_bound``."""
    return proposal_from(bound.kl.square().mean(0), floor)


def proposal_from(mean_square: Tensor, floor: float) -> Tensor:
    """Weights for ``sampled_bound``: root of the mean square of KL_t, (T + 1,), mixed with uniform.
    Returns (T + 1,).

    floor: the uniform part, which keeps weights bounded where the pilot happened to see nothing.
    """
    if not 0 <= floor <= 1:
        raise BoundError(f"floor is {floor}; it must be a number from 0 to 1")
    if not (torch.isfinite(rms := mean_square[2:].sqrt()).all() and rms.sum() > 0):
        raise BoundError(
            "the mean square of KL_t must be finite at all t and positive at some t ≥ 2"
        )
    return in_proportion(mean_square, floor)


def in_proportion(mean_square: Tensor, floor: float) -> Tensor:
    """``proposal_from`` without a look at what comes in, for which a GPU would have to be waited
    for.
    """
    rms = mean_square.sqrt()
    uniform = torch.ones_like(rms)
    uniform[:2] = rms[:2] = 0
    return (1 - floor) * rms / rms.sum() + floor * uniform / uniform.sum()
