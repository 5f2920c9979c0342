"""The two halves of a diffusion model: a *kernel*, the forward chain, and a *reverse*.

* t runs from 1 to T and index 0 is the data: ``beta`` and ``alpha_bar`` have shape (T + 1,).
* The axes of ``t`` are the leading axes of ``x``: (n,) goes with images (n, c, h, w), one step per
  image, (b,) with points (b, n, d), one step per block, and a plain integer with any ``x``.
* The last ``event_dim`` axes of ``x`` are one example, over which log probabilities, entropies and
  divergences are summed, in nats.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from nonequilibrium.errors import ParameterError


class Normal(NamedTuple):
    """A diagonal Gaussian: mean and variance, broadcastable to x; methods are per coordinate."""

    mean: Tensor
    var: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        return self.mean + self.var.sqrt() * noise

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * ((x - self.mean) ** 2 / self.var + torch.log(self.var) + LOG_2PI)

    def where(self, known: Tensor, other: "Normal") -> "Normal":
        return Normal(*(torch.where(known, *pair) for pair in zip(self, other, strict=True)))

    def kl(self, p: "Normal") -> Tensor:
        ratio = self.var / p.var
        return 0.5 * (ratio - 1 - torch.log(ratio) + (self.mean - p.mean) ** 2 / p.var)


class Bernoulli(NamedTuple):
    """Independent bits by their ``logit``, so that rates close to 0 and 1 keep their precision."""

    logit: Tensor

    @property
    def rate(self) -> Tensor:
        return torch.sigmoid(self.logit)

    def draw(self, noise: Tensor) -> Tensor:
        return (noise < self.rate).to(self.logit.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        return x * F.logsigmoid(self.logit) + (1 - x) * F.logsigmoid(-self.logit)

    def kl(self, p: "Bernoulli") -> Tensor:
        rate, one = self.rate, F.logsigmoid(self.logit) - F.logsigmoid(p.logit)
        return rate * one + (1 - rate) * (F.logsigmoid(-self.logit) - F.logsigmoid(-p.logit))


LOG_2PI = math.log(2 * math.pi)
P = TypeVar("P", Normal, Bernoulli)  # the distribution of one step
P_co = TypeVar("P_co", covariant=True)
Random = Generator | list[Generator] | None  # one for all examples, or one per example


class Reverse(Protocol[P_co]):
    """From x^t (*t.shape, ..., event) and t in 2..T to the parameters of p(x^{t−1}|x^t), shaped
    like x^t; the last step is ``Kernel.p_edge``.
    """

    def __call__(self, xt: Tensor, t: Tensor | int, /) -> P_co: ...


class Factor(Protocol):
    """r(x^{t−1}) of section 2.5: from p = p(x^{t−1}|x^t) to the normalised product of both, p̃.

    At t = T + 1, p is π and xt None. ``log_r(kernel, x, t)``, if any, is log r_t(x^t).
    """

    def __call__(self, kernel: Any, p: Any, xt: Tensor | None, t: int, /) -> Any: ...


class Kernel(ABC, Generic[P]):
    """A Markov kernel T_π(x|y; β) that leaves π invariant, applied with β_1..β_T (T,) (1)-(3)."""

    inclusive: ClassVar[bool] = False  # whether β may be 1
    standard_noise: ClassVar[Callable[..., Tensor]]

    def __init__(self, beta: Tensor, event_dim: int = 1):
        if beta.dim() != 1 or len(beta) < 2:
            raise ParameterError(f"beta has shape {tuple(beta.shape)}, not one axis of 2 or more")
        good = (beta > 0) & ((beta <= 1) if self.inclusive else (beta < 1))  # false for NaN
        if not good.all():
            t, allowed = int((~good).nonzero()[0]) + 1, "(0, 1]" if self.inclusive else "(0, 1)"
            raise ParameterError(f"beta_{t} is {float(beta[t - 1])}; rates must lie in {allowed}")
        beta = beta.double()
        self.T = len(beta)
        self.event_dim = event_dim
        self.beta = torch.cat([torch.zeros_like(beta[:1]), beta])
        # log ᾱ and 1−ᾱ by log1p and expm1: β_1 may be 1e-12 and 1−ᾱ_1 must still be exact.
        self.log_alpha_bar = torch.cumsum(torch.log1p(-self.beta), 0)
        self.alpha_bar = torch.exp(self.log_alpha_bar)
        self.one_minus_alpha_bar = -torch.expm1(self.log_alpha_bar)

    def at(self, coefficient: Tensor, t: Tensor | int, x: Tensor) -> Tensor:
        """``coefficient[t]``, in the dtype, on the device and with the axes of ``x``."""
        value = coefficient[t].to(device=x.device, dtype=x.dtype)
        return value.reshape(value.shape + (1,) * (x.dim() - value.dim()))

    def sum_event(self, values: Tensor) -> Tensor:
        """Sum over the axes of one example: (..., event) to (...)."""
        return values.sum(dim=tuple(range(-self.event_dim, 0)))

    def sample(self, p: P, generator: Random = None, noise: Tensor | None = None) -> Tensor:
        """A draw from ``p``, or the one of a frozen noise, which is differentiable in p (2.4.1)."""
        return p.draw(self.noise(p[0], generator) if noise is None else noise)

    def noise(self, like: Tensor, generator: Random = None) -> Tensor:
        """What becomes a draw, of the shape, dtype and device of ``like``."""
        if not isinstance(generator, list):
            options = {"dtype": like.dtype, "device": like.device}
            return self.standard_noise(like.shape, generator=generator, **options)
        if len(generator) != len(like):
            raise ParameterError(f"got {len(generator)} generators for {len(like)} samples")
        return torch.stack([self.noise(*pair) for pair in zip(like, generator, strict=True)])

    def log_prob(self, x: Tensor, p: P) -> Tensor:
        """log p(x): x (..., event) to (...)."""
        return self.sum_event(p.log_prob(x))

    def kl(self, q: P, p: P) -> Tensor:
        """KL(q‖p): parameters (..., event) to (...)."""
        return self.sum_event(q.kl(p))

    def p_edge(self, x1: Tensor) -> P:
        """p(x^0|x^1) = q(x^1|x^0) π(x^0)/π(x^1) = T_π(x^0|x^1; β_1), by reversibility (44)."""
        return self.q_step(x1, 1)

    @abstractmethod
    def q_step(self, x_prev: Tensor, t: Tensor | int) -> P:
        """q(x^t|x^{t−1}), one forward step (2); x_prev (*t.shape, ..., event)."""

    @abstractmethod
    def q_marginal(self, x0: Tensor, t: Tensor | int) -> P:
        """q(x^t|x^0), t forward steps composed; x0 (*t.shape, ..., event)."""

    @abstractmethod
    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor | int) -> P:
        """q(x^{t−1}|x^t, x^0) for t ≥ 2, the law that (14) compares with p(x^{t−1}|x^t)."""

    @abstractmethod
    def stationary(self, shape: Sequence[int], dtype: torch.dtype | None = None) -> P:
        """The parameters of π for x of this shape."""

    @abstractmethod
    def log_pi(self, x: Tensor) -> Tensor:
        """log π(x): x (..., event) to (...)."""

    @abstractmethod
    def entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^0 = x^0): x0 (*t.shape, ..., event) to (*t.shape, ...)."""

    @abstractmethod
    def step_entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^{t−1}) given x^0, the upper bound of (24); as ``entropy``."""

    @abstractmethod
    def cross_entropy_pi(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """−E_q(x^t|x^0) log π(x^t) for any x^0; as ``entropy``."""
