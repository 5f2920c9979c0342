"""The heartbeat's reverse chain, fast: what a step takes beside the network is looked up in tables
of two values, for 0 and for 1.

``MLPNetwork`` gives f_b = x̂ q(1|x^t, x^0=1) + (1 − x̂) q(1|x^t, x^0=0) with x̂ = sigmoid(W_t
h(x^t) + b_t + λ_t(x^t)), bit by bit. On bits λ_t and both posteriors have two values a step, so
that the chain needs no logarithm and one sigmoid a bit. The samples have the law of those of
``diffusion.sampling.sample``; they are others, because the uniform numbers are of another
precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.network.toys import MLPNetwork


class BitChain:
    """The reverse chain of an ``MLPNetwork`` with folded readouts.

    Tables of shape (T + 1, 2, 1), float32: the value at x^t = 0 and what x^t = 1 adds. ``own`` is
    λ_t; ``low`` is q(1|x^t, x^0=0) and ``rise`` is q(1|x^t, x^0=1) less it, for t ≥ 2.
    """

    def __init__(self, kernel: BinomialKernel, network: MLPNetwork):
        self.kernel, self.network = kernel, network
        t = torch.arange(2, kernel.T + 1)
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(len(t), 2, 1)
        low, high = (kernel.q_posterior(torch.full_like(x, x0), x, t).rate for x0 in (0.0, 1.0))
        values = kernel.q_marginal(x, t).logit, low, high - low
        self.own, self.low, self.rise = (self._table(value) for value in values)

    @staticmethod
    def _table(value: Tensor) -> Tensor:
        both = torch.stack([value[:, 0], value[:, 1] - value[:, 0]], 1)
        return torch.cat([torch.zeros(2, 2, 1, dtype=both.dtype), both]).float()

    def rate(self, xt: Tensor, t: int) -> Tensor:
        """f_b(x^t, t), the rate of ones in x^{t−1}: xt (n, dim) float32 zeros and ones, t in 2..T."""
        network, own, low, rise = self.network, self.own[t], self.low[t], self.rise[t]
        z = network.readout(network.hidden(xt), t)
        x0_hat = torch.addcmul(z.add_(own[0]), xt, own[1]).sigmoid_()
        return torch.addcmul(
            torch.addcmul(low[0], xt, low[1]), x0_hat, torch.addcmul(rise[0], xt, rise[1])
        )

    @torch.no_grad()
    def sample(self, n: int, dim: int, generator: torch.Generator) -> Tensor:
        """n true samples of ``dim`` bits, (n, dim) float32."""
        x = (torch.rand(n, dim, generator=generator) < self.kernel.pi).float()
        u = torch.empty_like(x)
        for t in range(self.kernel.T, 1, -1):
            torch.lt(u.uniform_(generator=generator), self.rate(x, t), out=x)
        return self.kernel.sample(self.kernel.p_edge(x), generator)
