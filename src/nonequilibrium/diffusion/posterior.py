"""Factors r, which multiply the reverse kernels for p̃(x^0) ∝ p(x^0) r(x^0) (2.5). Exact would be
E[r(x^0)|x^t], in whose place the paper puts r(x^t) = r(x^0) (23): with half of 32 Gaussian pixels
missing the mean moves 0.75 of the way, or 0.46 if annealed (``test_posterior``).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Bernoulli, Factor, Kernel, Normal, Random, Reverse
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.errors import ParameterError

WITHIN = 2.0  # of 1, 1.5, 2, 3 and no bound, that of the least errors on training images set aside


def exponent(annealed: bool, t: int, T: int) -> float:
    """The power of r(x^0) in r(x^t) (23): 1 at all t, or (T−t)/T if ``annealed``."""
    return 1 - t / T if annealed else 1.0


@dataclass
class Denoise:
    """r(x) = N(y; x, var): y is x plus Gaussian noise of variance ``var``."""

    y: Tensor
    var: float
    annealed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.var < math.inf:
            raise ParameterError(f"var is {self.var}; a variance of noise must be positive")

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        precision = exponent(self.annealed, t - 1, kernel.T) / self.var
        var = p.var / (1 + p.var * precision)
        return Normal(var * (p.mean / p.var + self.y * precision), var)

    def log_r(self, kernel: Kernel, x: Tensor, t: int) -> Tensor:
        terms = Normal(x, torch.full_like(x, self.var)).log_prob(self.y)
        return exponent(self.annealed, t, kernel.T) * kernel.sum_event(terms)


@dataclass
class Inpaint:
    """r is a delta on the ``known`` (bool, broadcastable) coordinates of x0; ``annealed``, they are
    replaced by their own forward chain, run backwards, so that the image has one noise level.
    """

    x0: Tensor
    known: Tensor
    annealed: bool = False

    def __post_init__(self):
        kind, shape = getattr(self.known, "dtype", type(self.known)), tuple(self.x0.shape)
        if kind != torch.bool:
            raise ParameterError(f"the mask has dtype {kind}; it must be boolean, true where known")
        try:
            self.known = self.known.expand(shape)
        except RuntimeError:
            given = f"the mask has shape {tuple(self.known.shape)}"
            raise ParameterError(f"{given}; it must fit images of shape {shape}") from None

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        known = Normal(self.x0, torch.zeros(()))
        if self.annealed and xt is None:
            known = kernel.q_marginal(self.x0, kernel.T)
        elif self.annealed and xt is not None and t > 1:
            known = kernel.q_posterior(self.x0, xt, t)
        return known.where(self.known, p)

    def log_r(self, kernel: GaussianKernel, x: Tensor, t: int) -> Tensor:
        """What each known pixel of x^t says by itself of its value in x^0, if data were white."""
        if not self.annealed:
            raise ParameterError("a delta at all t leaves no paths to weigh; use annealed = True")
        if t == 0:
            return x.new_zeros(len(x))  # the density of the known coordinates is in p(x^0|x^1)
        root, left = kernel.alpha_bar.sqrt(), kernel.one_minus_alpha_bar
        white = Normal(kernel.at(root, t, x) * x, kernel.at(left, t, x))
        return kernel.sum_event(torch.where(self.known, white.log_prob(self.x0), 0.0))


@dataclass
class Shift:
    """Any differentiable r_t, by (61): the mean moves by f_Σ ∂log r_{t−1}/∂x at x = f_μ."""

    log_r_t: Callable[[Tensor, int], Tensor]  # x (n, event) and t = 0..T to (n,) nats

    def __call__(self, kernel: GaussianKernel, p: Normal, xt: Tensor | None, t: int) -> Normal:
        with torch.enable_grad():
            x = p.mean.detach().requires_grad_()
            slope = torch.autograd.grad(self.log_r_t(x, t - 1).sum(), x)[0]
        return Normal(p.mean + p.var * slope, p.var)

    def log_r(self, kernel: Kernel, x: Tensor, t: int) -> Tensor:
        return self.log_r_t(x, t).detach()


@dataclass
class Between:
    """``through`` where lowest ≤ √((1−ᾱ_t)/ᾱ_t) ≤ highest, else ``outside``."""

    through: Through
    outside: Factor  # such as an annealed ``Inpaint``, or a cheaper ``Through``
    lowest: float = 0.05
    highest: float = 10.0
    limits: tuple[float, float] | None = None  # of data: a mean of x^0 far beyond never comes back

    def __call__(self, kernel: GaussianKernel, p: Any, xt: Tensor | None, t: int) -> Normal:
        if xt is None:
            return self.outside(kernel, p, xt, t)
        noise = (kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]) ** 0.5
        if t == 1 or self.lowest <= noise <= self.highest:
            shifted = self.through(kernel, p, xt, t)
            if t == 1 or self.limits is None:
                return shifted
            x0 = kernel.x0_given(shifted, xt, t).mean.clamp(*self.limits)
            return Normal(kernel.q_posterior(x0, xt, t).mean, shifted.var)
        given = None if isinstance(self.outside, Through) else self.through.reverse(xt, t)
        return self.outside(kernel, given, xt, t)


def filled_between(
    reverse: Reverse[Normal], x0: Tensor, known: Tensor, solve: int, limits: tuple[float, float]
) -> Between:
    """What fills in x0 (n, ...) where it is not ``known`` (bool, broadcastable to x0)."""
    through = Through(reverse, Mask(known), torch.where(known, x0, 0.0), 0.0, solve, WITHIN)
    return Between(through, Inpaint(x0, known, annealed=True), limits=limits)


@dataclass
class BitFactor:
    """r(x) = Π_i exp(x_i log_odds_i), independent evidence on single bits: a rate c of the reverse
    becomes c d/(c d + (1−c)(1−d)) (Table App.1).
    """

    log_odds: Tensor  # log r(1)/r(0) = log d/(1−d) of each bit, nats, broadcastable to x
    annealed: bool = False

    def __post_init__(self) -> None:
        if not torch.isfinite(self.log_odds).all():  # certain evidence would make 0 · ∞
            raise ParameterError("log_odds must be finite; ±50 is as good as certain")

    def __call__(self, kernel: Kernel, p: Bernoulli, xt: Tensor | None, t: int) -> Bernoulli:
        power = exponent(self.annealed, t - 1, kernel.T)
        return Bernoulli(p.logit + power * self.log_odds.to(p.logit))

    def log_r(self, kernel: Kernel, x: Tensor, t: int) -> Tensor:
        power = exponent(self.annealed, t, kernel.T)
        return power * kernel.sum_event(x * self.log_odds.to(x))


class TemplateFactor(BitFactor):
    """r_t(x^t) = Σ_k p(k|x^t) r(template_k) if data are equally probable templates (m, event).

    The d of bit i of x^{t−1} is E[r(x^0)|x^t, x_i^{t−1}] as a function of the bit. With the f_b of
    the optimum for c, the rates are those of the optimum for templates of probability ∝ r.
    """

    def __init__(self, templates: Tensor, log_odds: Tensor):
        super().__init__(log_odds)
        self.templates = templates

    def __call__(self, kernel: Kernel, p: Bernoulli, xt: Tensor | None, t: int) -> Bernoulli:
        if t == 1:
            return Bernoulli(p.logit + self.log_odds.to(p.logit))  # r(x^0) itself
        if xt is None:
            return p  # β_T = 1 leaves nothing of x^0 in x^T
        x0, x, log_weight = self._weighed(kernel, xt, t)
        bit = kernel.q_posterior(x0, x.expand_as(x0), t).logit
        log_r = (self.templates * self.log_odds).sum(-1, keepdim=True).to(bit)

        def expected(log_rate: Tensor) -> Tensor:
            """log E[r|x^t, bit i] but for a constant; log_rate: of the bit's value by template."""
            joint = log_weight[..., None] + log_rate
            return torch.logsumexp(joint + log_r, -2) - torch.logsumexp(joint, -2)

        log_d = expected(F.logsigmoid(bit)) - expected(F.logsigmoid(-bit))
        return Bernoulli(p.logit + log_d)

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


def step_of(kernel: GaussianKernel, var: float) -> int:
    """The first step t ≥ 2 whose (1−ᾱ_t)/ᾱ_t is at least ``var``."""
    noise = (kernel.one_minus_alpha_bar / kernel.alpha_bar).detach()
    if not 0 < var <= float(noise[-1]):
        raise ParameterError(f"the noise's variance is {var:g}; the chain has 0 to {noise[-1]:g}")
    return max(2, int(torch.searchsorted(noise, torch.tensor(var, dtype=noise.dtype))))


def excess(kernel: GaussianKernel, var: float) -> float:
    """The noise that is added to y, as a part of ``var``; 0 where a step has just this noise."""
    t = step_of(kernel, var)
    return max(float(kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]) / var - 1, 0.0)


def as_state(kernel: GaussianKernel, y: Tensor, var: float, generator: Random):
    """(t, x^t) of y = x^0 + noise of variance ``var``, (n, event), with what this is less than the
    step's noise added: from there the reverse chain is exact but for the model.
    """
    t, missing = step_of(kernel, var), excess(kernel, var) * var
    noisier = y + missing**0.5 * kernel.noise(y, generator)
    return t, kernel.at(kernel.alpha_bar.sqrt(), t, y) * noisier


def denoised(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator: Random
) -> Tensor:
    """Samples of x^0 given y = x^0 + noise of variance ``var``, (n, event)."""
    return sample(kernel, reverse, y.shape, generator, start=as_state(kernel, y, var, generator))


@torch.no_grad()
def denoised_mean(
    kernel: GaussianKernel, reverse: Reverse[Normal], y: Tensor, var: float, generator: Random
) -> Tensor:
    """The model's mean of x^0 given y, (n, event), by one call: the best guess in mean square."""
    t, xt = as_state(kernel, y, var, generator)
    return kernel.x0_given(reverse(xt, t), xt, t).mean
