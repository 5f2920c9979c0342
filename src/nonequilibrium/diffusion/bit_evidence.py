"""Factors for the binomial kernel, evidence on single bits. The perturbed rate of Table App.1,
c d/(c d + (1−c)(1−d)), is a sum in logits: logit c + log r(x_i=1)/r(x_i=0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Bernoulli, Kernel
from nonequilibrium.diffusion.posterior import exponent
from nonequilibrium.errors import ParameterError


def perturbed(p: Bernoulli, log_odds: Tensor) -> Bernoulli:
    """Bits of rate c d/(c d + (1−c)(1−d)) (Table App.1); log_odds: log d/(1−d), nats."""
    return Bernoulli(p.logit + log_odds)


def _check(log_odds: Tensor) -> None:
    """Certain evidence would make 0 · ∞ of what it forbids."""
    if not torch.isfinite(log_odds).all():
        raise ParameterError("log_odds must be finite; ±50 is as good as certain")


def template_posterior(templates: Tensor, log_odds: Tensor) -> Tensor:
    """p̃(template) ∝ r(template) for equally probable templates, (m,)."""
    _check(log_odds)
    return torch.softmax((templates * log_odds).sum(-1), -1)


@dataclass
class BitFactor:
    """r(x) = Π_i exp(x_i log_odds_i), independent evidence on single bits.

    log_odds: log r(1)/r(0) of each bit, nats, broadcastable to x; 0 where nothing is known.
    """

    log_odds: Tensor
    annealed: bool = False

    def __post_init__(self) -> None:
        _check(self.log_odds)

    def __call__(self, kernel: Kernel, p: Bernoulli, xt: Tensor | None, t: int) -> Bernoulli:
        power = exponent(self.annealed, t - 1, kernel.T)
        return perturbed(p, power * self.log_odds.to(p.logit))

    def log_r(self, kernel: Kernel, x: Tensor, t: int) -> Tensor:
        power = exponent(self.annealed, t, kernel.T)
        return power * kernel.sum_event(x * self.log_odds.to(x))


@dataclass
class TemplateFactor:
    """r_t(x^t) = Σ_k p(k|x^t) r(template_k), the expectation of r(x^0) where data are templates.

    templates: (m, event) bits, equally probable. log_odds: as in ``BitFactor``. The d of bit i of
    x^{t−1} is E[r(x^0)|x^t, x_i^{t−1}] as a function of the bit; with the optimum's f_b for c, the
    rates are those of the optimum for templates of probability in proportion to r.
    """

    templates: Tensor
    log_odds: Tensor

    def __post_init__(self) -> None:
        _check(self.log_odds)

    def __call__(self, kernel: Kernel, p: Bernoulli, xt: Tensor | None, t: int) -> Bernoulli:
        if t == 1:
            return perturbed(p, self.log_odds.to(p.logit))  # r(x^0) itself
        if xt is None:
            return p  # β_T = 1 leaves nothing of x^0 in x^T
        x0, x, log_weight = self._weighed(kernel, xt, t)
        bit = kernel.q_posterior(x0, x.expand_as(x0), t).logit
        log_r = (self.templates * self.log_odds).sum(-1, keepdim=True).to(bit)

        def expected(log_rate: Tensor) -> Tensor:
            """log E[r|x^t, bit i] but for a constant; log_rate: of the bit's value by template."""
            joint = log_weight[..., None] + log_rate
            return torch.logsumexp(joint + log_r, -2) - torch.logsumexp(joint, -2)

        return perturbed(p, expected(F.logsigmoid(bit)) - expected(F.logsigmoid(-bit)))

    def log_r(self, kernel: Kernel, x: Tensor, t: int) -> Tensor:
        if t == 0:
            return kernel.sum_event(x * self.log_odds.to(x))
        log_r = kernel.sum_event(self.templates * self.log_odds).to(x)
        return torch.logsumexp(torch.log_softmax(self._weighed(kernel, x, t)[2], -1) + log_r, -1)

    def _weighed(self, kernel: Kernel, xt: Tensor, t: int) -> tuple[Tensor, Tensor, Tensor]:
        """Templates, x^t beside them, and the log weight (..., m) of each template given x^t."""
        x0, x = self.templates.to(xt), xt[..., None, :]
        x0 = x0.expand(*x.shape[:-2], *x0.shape)
        return x0, x, kernel.log_prob(x, kernel.q_marginal(x0, t))
