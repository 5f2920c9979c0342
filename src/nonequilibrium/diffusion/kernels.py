"""The two diffusion kernels of Table App.1: Gaussian and binomial. What both have is said in
``chain``, with shapes and units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Bernoulli, Factor, Kernel, Normal, Reverse
from nonequilibrium.errors import ParameterError

__all__ = [
    "Bernoulli",
    "BinomialKernel",
    "Factor",
    "GaussianKernel",
    "Kernel",
    "ParameterError",
    "Normal",
    "Reverse",
]
LOG_2PI = math.log(2 * math.pi)


# ---------------------------------------------------------------- Gaussian


class GaussianKernel(Kernel[Normal]):
    """Gaussian diffusion (Table App.1, left): π = N(0, I), forward N(x√(1−β_t), β_t I)."""

    def __init__(self, beta: Tensor, event_dim: int = 1):
        super().__init__(beta, event_dim)
        # Weights of x^0 and x^t in the mean of q(x^{t−1}|x^t,x^0), and its variance: three (T + 1,)
        # float64 tensors. Index 0 has no meaning; at t = 1 the posterior is a point mass on x^0.
        previous = torch.cat([self.one_minus_alpha_bar[:1], self.one_minus_alpha_bar[:-1]])
        alpha_bar_previous = torch.cat([self.alpha_bar[:1], self.alpha_bar[:-1]])
        left = torch.cat([torch.ones_like(self.beta[:1]), self.one_minus_alpha_bar[1:]])
        self.posterior_on_x0 = alpha_bar_previous.sqrt() * self.beta / left
        self.posterior_on_xt = (1 - self.beta).sqrt() * previous / left
        self.posterior_var = self.beta * previous / left

    def q_step(self, x_prev: Tensor, t: Tensor | int) -> Normal:
        """q(x^t|x^{t−1}) = N(x^{t−1}√(1−β_t), β_t I) (Table App.1)."""
        beta = self.at(self.beta, t, x_prev)
        return Normal(x_prev * (1 - beta).sqrt(), beta)

    def q_marginal(self, x0: Tensor, t: Tensor | int) -> Normal:
        """q(x^t|x^0) = N(x^0√ᾱ_t, (1−ᾱ_t) I), the forward steps composed."""
        return Normal(
            x0 * self.at(self.alpha_bar.sqrt(), t, x0), self.at(self.one_minus_alpha_bar, t, x0)
        )

    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor | int) -> Normal:
        """q(x^{t−1}|x^t, x^0) for t ≥ 2, the law that (14) compares with p(x^{t−1}|x^t)."""
        mean = self.at(self.posterior_on_x0, t, xt) * x0 + self.at(self.posterior_on_xt, t, xt) * xt
        return Normal(mean, self.at(self.posterior_var, t, xt))

    def x0_given(self, p: Normal, xt: Tensor, t: Tensor | int) -> Normal:
        """What p(x^{t−1}|x^t) says of x^0, for t ≥ 2: its mean and variance given x^t, as
        q(x^{t−1}|x^t, x^0) is linear in x^0.

        A variance below zero, where p is sharper than q(x^{t−1}|x^t, x^0), is given as zero.
        """
        on_x0 = self.at(self.posterior_on_x0, t, xt)
        mean = (p.mean - self.at(self.posterior_on_xt, t, xt) * xt) / on_x0
        return Normal(mean, ((p.var - self.at(self.posterior_var, t, xt)) / on_x0**2).clamp(min=0))

    def sample(
        self, p: Normal, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """A draw from ``p``; with ``noise`` (standard normal, frozen) it is differentiable in ``p``
        (2.4.1).
        """
        if noise is None:
            noise = self.noise(p, p.mean.shape, generator)
        return p.mean + p.var.sqrt() * noise

    def noise(
        self, p: Normal, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """What ``sample`` turns into draws from ``p``: standard normal, of this shape."""
        return torch.randn(shape, generator=generator, dtype=p.mean.dtype, device=p.mean.device)

    def log_prob(self, x: Tensor, p: Normal) -> Tensor:
        """log p(x) per example, nats."""
        terms = -0.5 * ((x - p.mean) ** 2 / p.var + torch.log(p.var) + LOG_2PI)
        return self.sum_event(terms)

    def kl(self, q: Normal, p: Normal) -> Tensor:
        """KL(q‖p) per example, nats."""
        ratio = q.var / p.var
        return 0.5 * self.sum_event(ratio - 1 - torch.log(ratio) + (q.mean - p.mean) ** 2 / p.var)

    def log_pi(self, x: Tensor) -> Tensor:
        """log π(x) per example, nats: a standard normal."""
        return self.sum_event(-0.5 * (x**2 + LOG_2PI))

    def stationary(
        self, shape: Sequence[int], dtype: torch.dtype | None = None, device=None
    ) -> Normal:
        """The parameters of π for x of this shape."""
        mean = torch.zeros(shape, dtype=dtype, device=device)
        return Normal(mean, torch.ones_like(mean))

    def entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^0 = x^0) per example, nats; analytic, the same for every x^0."""
        var = self.at(self.one_minus_alpha_bar, t, x0)
        return self.sum_event((0.5 * (1 + LOG_2PI + torch.log(var))).expand_as(x0))

    def step_entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^{t−1}) given x^0, per example, nats: the upper bound of (24)."""
        beta = self.at(self.beta, t, x0)
        return self.sum_event((0.5 * (1 + LOG_2PI + torch.log(beta))).expand_as(x0))

    def cross_entropy_pi(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """−E_q(x^t|x^0) log π(x^t) per example, nats; exact whatever the data's mean and variance."""
        marginal = self.q_marginal(x0, t)
        return self.sum_event(0.5 * (marginal.mean**2 + marginal.var + LOG_2PI))

    def entropy_pi(self, x0: Tensor) -> Tensor:
        """H_p(X^T), the entropy of π for examples shaped like x0, nats (14)."""
        return self.sum_event(torch.full_like(x0, 0.5 * (1 + LOG_2PI)))


# ---------------------------------------------------------------- binomial


class BinomialKernel(Kernel[Bernoulli]):
    """Binomial diffusion (Table App.1, right): independent bits, forward B(x^{t−1}(1−β_t) + π β_t).

    pi: the rate of ones in the stationary law (Table App.1 prints 0.5; the heartbeat experiment
    uses 0.2).
    """

    inclusive = True  # β_T = 1 erases the last of the signal and is harmless here

    def __init__(self, beta: Tensor, pi: float = 0.5, event_dim: int = 1):
        super().__init__(beta, event_dim)
        if not 0 < pi < 1:
            raise ParameterError(f"pi is {pi}; the rate of ones must lie strictly between 0 and 1")
        self.pi = pi
        # On bits every logit is linear in each bit, so two (T + 1,) tables say it all, in float64:
        # of q(x^t = 1|x^0) for x^0 = 0 and 1, infinite at t = 0,
        rate_0, rate_1 = (
            pi * self.one_minus_alpha_bar,
            self.alpha_bar + pi * self.one_minus_alpha_bar,
        )
        lost = (1 - pi) * self.one_minus_alpha_bar
        self._marginal_logits = torch.logit(rate_0), torch.log(rate_1) - torch.log(lost)
        # and of log q(x^t|1) − log q(x^t|0) for a step from x^{t−1}, at x^t = 0 and 1.
        zero, one, fell = pi * self.beta, (1 - self.beta) + pi * self.beta, (1 - pi) * self.beta
        self._step_likelihood = (
            torch.log(fell) - torch.log1p(-zero),
            torch.log(one) - torch.log(zero),
        )

    def q_step(self, x_prev: Tensor, t: Tensor | int) -> Bernoulli:
        """q(x^t|x^{t−1}) = B(x^{t−1}(1−β_t) + π β_t) (Table App.1)."""
        beta = self.at(self.beta, t, x_prev)
        return Bernoulli(torch.logit(x_prev * (1 - beta) + self.pi * beta))

    def q_marginal(self, x0: Tensor, t: Tensor | int) -> Bernoulli:
        """q(x^t|x^0) = B(x^0 ᾱ_t + π (1−ᾱ_t)), the forward steps composed."""
        zero, one = self._marginal_logits
        return Bernoulli(self.at(zero, t, x0) + x0 * self.at(one - zero, t, x0))

    def _marginal_rate(self, x0: Tensor, t: Tensor | int) -> Tensor:
        return x0 * self.at(self.alpha_bar, t, x0) + self.pi * self.at(
            self.one_minus_alpha_bar, t, x0
        )

    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor | int) -> Bernoulli:
        """q(x^{t−1}|x^t, x^0) for t ≥ 2, bit by bit, by Bayes' rule on q(x^t|x^{t−1})
        q(x^{t−1}|x^0).
        """
        prior, likelihood = self._marginal_logits, self._step_likelihood
        logit = self.at(prior[0], t - 1, x0) + x0 * self.at(prior[1] - prior[0], t - 1, x0)
        return Bernoulli(
            logit
            + self.at(likelihood[0], t, xt)
            + xt * self.at(likelihood[1] - likelihood[0], t, xt)
        )

    def sample(
        self, p: Bernoulli, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """A draw from ``p``: zeros and ones in its dtype; ``noise`` is uniform on [0, 1)."""
        if noise is None:
            noise = self.noise(p, p.logit.shape, generator)
        return (noise < p.rate).to(p.logit.dtype)

    def noise(
        self, p: Bernoulli, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """What ``sample`` turns into draws from ``p``: uniform on [0, 1), of this shape."""
        return torch.rand(shape, generator=generator, dtype=p.logit.dtype, device=p.logit.device)

    def log_prob(self, x: Tensor, p: Bernoulli) -> Tensor:
        """log p(x) per example, nats."""
        return self.sum_event(x * F.logsigmoid(p.logit) + (1 - x) * F.logsigmoid(-p.logit))

    def kl(self, q: Bernoulli, p: Bernoulli) -> Tensor:
        """KL(q‖p) per example, nats."""
        rate = q.rate
        one = F.logsigmoid(q.logit) - F.logsigmoid(p.logit)
        zero = F.logsigmoid(-q.logit) - F.logsigmoid(-p.logit)
        return self.sum_event(rate * one + (1 - rate) * zero)

    def log_pi(self, x: Tensor) -> Tensor:
        """log π(x) per example, nats: independent bits of rate ``pi``."""
        return self.sum_event(x * math.log(self.pi) + (1 - x) * math.log1p(-self.pi))

    def stationary(
        self, shape: Sequence[int], dtype: torch.dtype | None = None, device=None
    ) -> Bernoulli:
        """The parameters of π for x of this shape."""
        return Bernoulli(
            torch.full(tuple(shape), math.log(self.pi / (1 - self.pi)), dtype=dtype, device=device)
        )

    def entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^0 = x^0) per example, nats; analytic."""
        return self.sum_event(_bit_entropy(self._marginal_rate(x0, t)))

    def step_entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^{t−1}) given x^0, per example, nats: the upper bound of (24)."""
        beta = self.at(self.beta, t, x0)
        previous = self._marginal_rate(x0, t - 1)
        from_one, from_zero = (
            _bit_entropy((1 - beta) + self.pi * beta),
            _bit_entropy(self.pi * beta),
        )
        return self.sum_event(previous * from_one + (1 - previous) * from_zero)

    def cross_entropy_pi(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """−E_q(x^t|x^0) log π(x^t) per example, nats."""
        rate = self._marginal_rate(x0, t)
        return self.sum_event(-(rate * math.log(self.pi) + (1 - rate) * math.log1p(-self.pi)))

    def entropy_pi(self, x0: Tensor) -> Tensor:
        """H_p(X^T), the entropy of π for examples shaped like x0, nats (14)."""
        return self.sum_event(_bit_entropy(torch.full_like(x0, self.pi)))


def _bit_entropy(rate: Tensor) -> Tensor:
    return -(torch.xlogy(rate, rate) + torch.xlogy(1 - rate, 1 - rate))
