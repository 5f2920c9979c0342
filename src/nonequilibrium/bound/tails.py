"""Draws of x^t that reach the tails of q(x^t|x^0), with the weights that keep an average unbiased.

A model may fail only where x^t hardly ever goes: of the heartbeat midway between two templates,
four flips from either. A thousand draws from q(x^t|x^0) see two or three such states or none, so
their mean is too small as a rule and so is its standard error. Part of the draws therefore come
from a chain that keeps less of the signal; the weight is q(x^t|x^0) over the mixture that was drawn
from. All coordinates are independent given x^0, so both are known exactly, and with half of the
draws from each no weight exceeds 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.diffusion.kernels import Bernoulli, BinomialKernel, Kernel, Normal
from nonequilibrium.errors import BoundError

KEPT = 0.5  # part of ᾱ_t that the noisier chain keeps


def noisier(kernel: Kernel, x0: Tensor, t: Tensor | int, kept: float = KEPT):
    """The forward marginal of a chain that keeps ``kept`` ᾱ_t of the signal in place of ᾱ_t."""
    alpha_bar = kept * kernel.at(kernel.alpha_bar, t, x0)
    if isinstance(kernel, BinomialKernel):
        return Bernoulli(torch.logit(x0 * alpha_bar + kernel.pi * (1 - alpha_bar)))
    return Normal(x0 * alpha_bar.sqrt(), 1 - alpha_bar)


def check_share(share) -> float:
    """``share`` as a float; raises BoundError unless it lies in [0, 1)."""
    if not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise BoundError(f"noisier_share is {share!r}; it must be a number from 0 to less than 1")
    return float(share)


def draw(
    kernel: Kernel, x0: Tensor, t: Tensor | int, generator, share: float
) -> tuple[Tensor, Tensor | float]:
    """x^t, a part ``share`` of it from the noisier chain, and its weight q(x^t|x^0)/mixture.

    x0: (*t.shape, ..., event). share: in [0, 1); 0 is a draw from q(x^t|x^0) of weight 1. Returns
    x^t like x0 and weights of its shape without the event axes, which average to one and never
    exceed 1/(1 − share).
    """
    q = kernel.q_marginal(x0, t)
    if share == 0:
        return kernel.sample(q, generator), 1.0
    wide, event = noisier(kernel, x0, t), (1,) * kernel.event_dim
    here = torch.rand(
        x0.shape[: x0.dim() - kernel.event_dim],
        generator=generator,
        dtype=torch.float64,
        device=x0.device,
    )
    x_q, x_wide = kernel.sample(q, generator), kernel.sample(wide, generator)
    xt = torch.where((here < share).reshape(*here.shape, *event), x_wide, x_q)
    ratio = torch.exp(kernel.log_prob(xt, wide).double() - kernel.log_prob(xt, q).double())
    return xt, 1 / (1 - share + share * ratio)
