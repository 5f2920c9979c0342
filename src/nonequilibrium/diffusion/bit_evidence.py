"""r for the binomial kernel (Table App.1): what is known of single bits, and how the five templates
of the heartbeat pass it on.

The perturbed rate of a bit is c d/(c d + (1−c)(1−d)) with c = f_b and d = r(x_i=1) normalised over
the bit. In logits it is a sum: logit c + log r(x_i=1)/r(x_i=0). As in ``posterior``, an ``r`` is
called as r(kernel, p, xt, t) with p = p(x^{t−1}|x^t).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Bernoulli
from nonequilibrium.diffusion.kernels import BinomialKernel
from nonequilibrium.errors import ParameterError


def perturbed(p: Bernoulli, log_odds: Tensor) -> Bernoulli:
    """Bits of rate c d/(c d + (1−c)(1−d)) (Table App.1). log_odds: log d/(1−d) of each bit, nats,
    broadcastable to p.
    """
    return Bernoulli(p.logit + log_odds)


@dataclass
class BitFactor:
    """r(x) = Π_i exp(x_i log_odds_i): independent evidence of single bits, the same at all t as in
    (23).

    log_odds: log r(1)/r(0) of each bit, nats, (event) or broadcastable to x; 0 where nothing is
    known.
    annealed: r(x^t) = r(x^0)^((T−t)/T), the alternative of (23).
    """

    log_odds: Tensor
    annealed: bool = False

    def __post_init__(self) -> None:
        _check(self.log_odds)

    def __call__(
        self, kernel: BinomialKernel, p: Bernoulli, xt: Tensor | None, t: int
    ) -> Bernoulli:
        power = 1 - (t - 1) / kernel.T if self.annealed else 1.0
        return perturbed(p, power * self.log_odds.to(p.logit))


@dataclass
class TemplateFactor:
    """The same evidence as r_t(x^t) = Σ_k p(k|x^t) r(template_k), its expectation given x^t, where
    data are a few templates.

    templates: (m, event) bits, equally probable. log_odds: as in ``BitFactor``. For bit i of
    x^{t−1} the d of Table App.1 is E[r(x^0)|x^t, x_i^{t−1}] as a function of the bit. With the
    optimum's f_b for c the rates are those of the optimum for templates of prior probability in
    proportion to r.
    """

    templates: Tensor
    log_odds: Tensor

    def __post_init__(self) -> None:
        _check(self.log_odds)

    def __call__(
        self, kernel: BinomialKernel, p: Bernoulli, xt: Tensor | None, t: int
    ) -> Bernoulli:
        if t == 1:
            return perturbed(p, self.log_odds.to(p.logit))  # r(x^0) itself
        if xt is None:
            return p  # β_T = 1 leaves nothing of x^0 in x^T
        x0 = self.templates.to(p.logit)
        x = xt[..., None, :]
        x0 = x0.expand(*x.shape[:-2], *x0.shape)
        log_weight = kernel.log_prob(x, kernel.q_marginal(x0, t))[
            ..., None
        ]  # of each template given x^t
        bit = kernel.q_posterior(x0, x.expand_as(x0), t).logit
        log_r = (self.templates * self.log_odds).sum(-1, keepdim=True).to(bit)

        def expected(log_rate: Tensor) -> Tensor:
            """log E[r|x^t, bit i], up to what does not depend on the bit; log_rate: of the bit's
            value given each template.
            """
            joint = log_weight + log_rate
            return torch.logsumexp(joint + log_r, -2) - torch.logsumexp(joint, -2)

        return perturbed(p, expected(F.logsigmoid(bit)) - expected(F.logsigmoid(-bit)))


def _check(log_odds: Tensor) -> None:
    """Raises ParameterError unless evidence is finite: certain evidence makes 0 · ∞ of what it forbids."""
    if not torch.isfinite(log_odds).all():
        raise ParameterError("log_odds must be finite; ±50 is as good as certain")


def template_posterior(templates: Tensor, log_odds: Tensor) -> Tensor:
    """p̃(template) ∝ r(template) for equally probable templates, (m,): what samples are compared
    with.
    """
    _check(log_odds)
    return torch.softmax((templates * log_odds).sum(-1), -1)
