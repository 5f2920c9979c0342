"""The Gaussian and the binomial kernel of Table App.1; shapes and units as in ``chain.Kernel``."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import LOG_2PI, Bernoulli, Kernel, Normal
from nonequilibrium.errors import ParameterError


class GaussianKernel(Kernel[Normal]):
    """Gaussian diffusion (Table App.1, left), π = N(0, I)."""

    standard_noise = staticmethod(torch.randn)

    def __init__(self, beta: Tensor, event_dim: int = 1):
        super().__init__(beta, event_dim)
        # Of q(x^{t−1}|x^t,x^0) the weights of x^0 and x^t in the mean, and the variance, (T + 1,).
        # Index 0 has no meaning; at t = 1 the posterior is a point mass on x^0.
        left, signal = self.one_minus_alpha_bar, self.alpha_bar
        before, signal = (torch.cat([values[:1], values[:-1]]) for values in (left, signal))
        left = torch.cat([torch.ones_like(left[:1]), left[1:]])
        self.posterior_on_x0 = signal.sqrt() * self.beta / left
        self.posterior_on_xt = (1 - self.beta).sqrt() * before / left
        self.posterior_var = self.beta * before / left

    def q_step(self, x_prev: Tensor, t: Tensor | int) -> Normal:
        """q(x^t|x^{t−1}) = N(x^{t−1}√(1−β_t), β_t I) (Table App.1)."""
        beta = self.at(self.beta, t, x_prev)
        return Normal(x_prev * (1 - beta).sqrt(), beta)

    def q_marginal(self, x0: Tensor, t: Tensor | int) -> Normal:
        """q(x^t|x^0) = N(x^0√ᾱ_t, (1−ᾱ_t) I), the forward steps composed."""
        root = self.at(self.alpha_bar.sqrt(), t, x0)
        return Normal(x0 * root, self.at(self.one_minus_alpha_bar, t, x0))

    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor | int) -> Normal:
        """q(x^{t−1}|x^t, x^0) for t ≥ 2, whose mean is linear in x^0 and x^t."""
        mean = self.at(self.posterior_on_x0, t, xt) * x0 + self.at(self.posterior_on_xt, t, xt) * xt
        return Normal(mean, self.at(self.posterior_var, t, xt))

    def x0_given(self, p: Normal, xt: Tensor, t: Tensor | int) -> Normal:
        """Mean and variance of x^0 given x^t that p(x^{t−1}|x^t), t ≥ 2, implies; at least zero."""
        on_x0 = self.at(self.posterior_on_x0, t, xt)
        mean = (p.mean - self.at(self.posterior_on_xt, t, xt) * xt) / on_x0
        return Normal(mean, ((p.var - self.at(self.posterior_var, t, xt)) / on_x0**2).clamp(min=0))

    def stationary(self, shape: Sequence[int], dtype: torch.dtype | None = None) -> Normal:
        mean = torch.zeros(shape, dtype=dtype)
        return Normal(mean, torch.ones_like(mean))

    def log_pi(self, x: Tensor) -> Tensor:
        return self.sum_event(-0.5 * (x**2 + LOG_2PI))

    def entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        return self._entropy(self.at(self.one_minus_alpha_bar, t, x0), x0)

    def step_entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        return self._entropy(self.at(self.beta, t, x0), x0)

    def cross_entropy_pi(self, x0: Tensor, t: Tensor | int) -> Tensor:
        marginal = self.q_marginal(x0, t)
        return self.sum_event(0.5 * (marginal.mean**2 + marginal.var + LOG_2PI))

    def _entropy(self, var: Tensor, x: Tensor) -> Tensor:
        return self.sum_event((0.5 * (1 + LOG_2PI + torch.log(var))).expand_as(x))


class BinomialKernel(Kernel[Bernoulli]):
    """Binomial diffusion (Table App.1, right), π = B(pi)."""

    inclusive = True  # β_T = 1 erases the last of the signal and is harmless here
    standard_noise = staticmethod(torch.rand)

    def __init__(self, beta: Tensor, pi: float = 0.5, event_dim: int = 1):
        super().__init__(beta, event_dim)
        if not 0 < pi < 1:
            raise ParameterError(f"pi is {pi}; the rate of ones must lie strictly between 0 and 1")
        self.pi = pi
        # Logits are linear in each bit. Of q(x^t = 1|x^0) at x^0 = 0 and 1, infinite at t = 0,
        zero, lost = pi * self.one_minus_alpha_bar, (1 - pi) * self.one_minus_alpha_bar
        one = self.alpha_bar + pi * self.one_minus_alpha_bar
        self._marginal_logits = torch.logit(zero), torch.log(one) - torch.log(lost)
        # and log q(x^t|x^{t−1} = 1) − log q(x^t|x^{t−1} = 0) at x^t = 0 and 1:
        zero, one, fell = pi * self.beta, (1 - self.beta) + pi * self.beta, (1 - pi) * self.beta
        at_zero, at_one = torch.log(fell) - torch.log1p(-zero), torch.log(one) - torch.log(zero)
        self._step_likelihood = at_zero, at_one

    def _linear(self, table: tuple[Tensor, Tensor], bit: Tensor, t: Tensor | int) -> Tensor:
        """``table[bit]`` at step t, linear in the bit."""
        return self.at(table[0], t, bit) + bit * self.at(table[1] - table[0], t, bit)

    def q_step(self, x_prev: Tensor, t: Tensor | int) -> Bernoulli:
        """q(x^t|x^{t−1}) = B(x^{t−1}(1−β_t) + π β_t) (Table App.1)."""
        beta = self.at(self.beta, t, x_prev)
        return Bernoulli(torch.logit(x_prev * (1 - beta) + self.pi * beta))

    def q_marginal(self, x0: Tensor, t: Tensor | int) -> Bernoulli:
        """q(x^t|x^0) = B(x^0 ᾱ_t + π (1−ᾱ_t)), the forward steps composed."""
        return Bernoulli(self._linear(self._marginal_logits, x0, t))

    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor | int) -> Bernoulli:
        """q(x^{t−1}|x^t, x^0) for t ≥ 2, by Bayes' rule on q(x^t|x^{t−1}) q(x^{t−1}|x^0)."""
        low, high = self._step_likelihood
        logit = self._linear(self._marginal_logits, x0, t - 1) + self.at(low, t, xt)
        return Bernoulli(logit + xt * self.at(high - low, t, xt))

    def stationary(self, shape: Sequence[int], dtype: torch.dtype | None = None) -> Bernoulli:
        return Bernoulli(torch.full(shape, math.log(self.pi / (1 - self.pi)), dtype=dtype))

    def log_pi(self, x: Tensor) -> Tensor:
        return self.sum_event(x * math.log(self.pi) + (1 - x) * math.log1p(-self.pi))

    def entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        return self.sum_event(_bit_entropy(self._marginal_rate(x0, t)))

    def step_entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        beta, previous = self.at(self.beta, t, x0), self._marginal_rate(x0, t - 1)
        of_one, of_zero = _bit_entropy((1 - beta) + self.pi * beta), _bit_entropy(self.pi * beta)
        return self.sum_event(previous * of_one + (1 - previous) * of_zero)

    def cross_entropy_pi(self, x0: Tensor, t: Tensor | int) -> Tensor:
        return -self.log_pi(self._marginal_rate(x0, t))  # log π is linear in each bit

    def _marginal_rate(self, x0: Tensor, t: Tensor | int) -> Tensor:
        lost = self.at(self.one_minus_alpha_bar, t, x0)
        return x0 * self.at(self.alpha_bar, t, x0) + self.pi * lost


def _bit_entropy(rate: Tensor) -> Tensor:
    return -(torch.xlogy(rate, rate) + torch.xlogy(1 - rate, 1 - rate))
