"""Which t and x^t are drawn where K is estimated, with the weights that keep an average unbiased.
Draws from q(x^t|x^0) hardly ever see states midway between two heartbeats, where a model may fail.
"""

from typing import Any

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Bernoulli, Kernel, Normal
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.errors import BoundError

KEPT = 0.5  # part of ᾱ_t that the noisier chain keeps


def draw(
    kernel: Kernel, x0: Tensor, t: Tensor | int, generator, share: float
) -> tuple[Tensor, Tensor | float]:
    """x^t, a part ``share`` of it from a noisier chain, and its weight q(x^t|x^0)/mixture,
    (*t.shape, ...), of mean one and at most 1/(1 − share).
    """
    if not 0 <= share < 1:
        raise BoundError(f"noisier_share is {share}; it must be a number from 0 to less than 1")
    q = kernel.q_marginal(x0, t)
    if share == 0:
        return kernel.sample(q, generator), 1.0
    signal = KEPT * kernel.at(kernel.alpha_bar, t, x0)
    if isinstance(kernel, BinomialKernel):
        wide: Any = Bernoulli(torch.logit(x0 * signal + kernel.pi * (1 - signal)))
    else:
        wide = Normal(x0 * signal.sqrt(), 1 - signal)
    shape = x0.shape[: x0.dim() - kernel.event_dim]
    u = torch.rand(shape, generator=generator, dtype=torch.float64, device=x0.device)
    x_q, x_wide = kernel.sample(q, generator), kernel.sample(wide, generator)
    xt = torch.where((u < share).reshape(*shape, *(1,) * kernel.event_dim), x_wide, x_q)
    ratio = torch.exp(kernel.log_prob(xt, wide).double() - kernel.log_prob(xt, q).double())
    return xt, 1 / (1 - share + share * ratio)


def proposal_from(mean_square: Tensor, floor: float = 0.1) -> Tensor:
    """Weights (T + 1,) in proportion to the root of the mean square of KL_t, (T + 1,), which have
    the least variance; of them ``floor`` is uniform, for where a pilot saw nothing.
    """
    rms = mean_square.sqrt()
    uniform = torch.ones_like(rms)
    uniform[:2] = rms[:2] = 0
    return (1 - floor) * rms / rms.sum() + floor * uniform / uniform.sum()
