"""What a kernel has and what a reverse is: the two halves of a diffusion model, said once, with
shapes and units.

A *kernel* is the forward chain and everything about it that is exact. A *reverse* is the function
that gives the parameters of p(x^{t−1}|x^t): a trained network, an optimum, or somebody else's
model. Bounds, samplers and posteriors take the two and nothing else.

Conventions used everywhere in the package:

* t runs from 1 to T as in the paper and index 0 is the data, so ``beta`` and ``alpha_bar`` have
shape
  (T + 1,) with ``beta[0] = 0`` and ``alpha_bar[0] = 1``.
* The axes of ``t`` are the leading axes of ``x``: ``t`` of shape (n,) goes with images ``x`` of
shape
  (n, c, h, w), one step an image; ``t`` of shape (b,) goes with points ``x`` of shape (b, n, d),
  one step a block of n points; a plain integer goes with any ``x``.
* The last ``event_dim`` axes of ``x`` are one example. Log probabilities, entropies and divergences
are
  summed over them and over nothing else. All are in nats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from nonequilibrium.diffusion.schedules import check_beta


class Normal(NamedTuple):
    """A diagonal Gaussian: ``mean`` and ``var``, broadcastable to the shape of x."""

    mean: Tensor
    var: Tensor


class Bernoulli(NamedTuple):
    """Independent bits by their ``logit``, so that rates close to 0 and 1 keep their precision."""

    logit: Tensor

    @property
    def rate(self) -> Tensor:
        return torch.sigmoid(self.logit)


P = TypeVar(
    "P", Normal, Bernoulli
)  # parameters of one step's distribution: of the chain's kind, Gaussian or binomial
P_co = TypeVar("P_co", covariant=True)


class Reverse(Protocol[P_co]):
    """A reverse: the function of (x^t, t) that gives the parameters of p(x^{t−1}|x^t), for t in
    2..T.

    xt: (*t.shape, ..., event). Returns parameters of xt's shape, in xt's dtype, on its device; a
    variance may be any shape that broadcasts to it, with an axis for each of xt's or none. The last
    step, to x^0, is fixed: ``Kernel.p_edge``.
    """

    def __call__(self, xt: Tensor, t: Tensor | int, /) -> P_co: ...


class Factor(Protocol):
    """r(x^{t−1}) of section 2.5: from p(x^{t−1}|x^t) to the normalised product of both, see
    ``posterior``.

    p: parameters (n, event). xt: (n, event); None at t = T + 1, where p is π.
    """

    def __call__(self, kernel: Any, p: Any, xt: Tensor | None, t: int, /) -> Any: ...


class Kernel(ABC, Generic[P]):
    """A Markov kernel T_π(x|y; β) that leaves π invariant, applied T times (1)-(3).

    beta: β_1..β_T, shape (T,); kept in float64, differentiable if it is.
    event_dim: how many trailing axes of x make one example.
    """

    largest_beta, inclusive = 1.0, False
    T: int
    beta: Tensor  # (T + 1,) float64, like the next three
    log_alpha_bar: Tensor
    alpha_bar: Tensor
    one_minus_alpha_bar: Tensor

    def __init__(self, beta: Tensor, event_dim: int = 1):
        check_beta(beta.detach(), self.largest_beta, self.inclusive)
        beta = beta.double()
        self.T = len(beta)
        self.event_dim = event_dim
        self.beta = torch.cat([torch.zeros_like(beta[:1]), beta])
        # log ᾱ and 1−ᾱ by log1p and expm1: β_1 may be 1e-12 and 1−ᾱ_1 must still be exact.
        self.log_alpha_bar = torch.cumsum(torch.log1p(-self.beta), 0)
        self.alpha_bar = torch.exp(self.log_alpha_bar)
        self.one_minus_alpha_bar = -torch.expm1(self.log_alpha_bar)

    def at(self, coefficient: Tensor, t: Tensor | int, x: Tensor) -> Tensor:
        """``coefficient[t]``, shaped to multiply ``x``, on its device and in its dtype."""
        value = coefficient[t].to(device=x.device, dtype=x.dtype)
        return value.reshape(value.shape + (1,) * (x.dim() - value.dim()))

    def sum_event(self, values: Tensor) -> Tensor:
        """Sum over the axes of one example: (..., event) to (...)."""
        return values.sum(dim=tuple(range(-self.event_dim, 0)))

    def p_edge(self, x1: Tensor) -> P:
        """p(x^0|x^1) = q(x^1|x^0) π(x^0)/π(x^1) = T_π(x^0|x^1; β_1) (44): both kernels are
        reversible.
        """
        return self.q_step(x1, 1)

    @abstractmethod
    def q_step(self, x_prev: Tensor, t: Tensor | int) -> P:
        """q(x^t|x^{t−1}), one forward step; x_prev (*t.shape, ..., event)."""

    @abstractmethod
    def q_marginal(self, x0: Tensor, t: Tensor | int) -> P:
        """q(x^t|x^0), t forward steps composed; x0 (*t.shape, ..., event)."""

    @abstractmethod
    def q_posterior(self, x0: Tensor, xt: Tensor, t: Tensor | int) -> P:
        """q(x^{t−1}|x^t, x^0) for t ≥ 2, with which (14) compares p(x^{t−1}|x^t); x0 and xt
        (*t.shape, ..., event).
        """

    @abstractmethod
    def sample(
        self, p: P, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """A draw from ``p``, of its shape, dtype and device. noise: frozen, of this shape, in place
        of the generator (2.4.1).
        """

    @abstractmethod
    def noise(self, p: P, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """What ``sample`` turns into draws from ``p``, of this shape."""

    @abstractmethod
    def log_prob(self, x: Tensor, p: P) -> Tensor:
        """log p(x), nats: x (..., event) to (...)."""

    @abstractmethod
    def kl(self, q: P, p: P) -> Tensor:
        """KL(q‖p), nats: parameters (..., event) to (...)."""

    @abstractmethod
    def stationary(self, shape: Sequence[int], dtype: torch.dtype | None = None, device=None) -> P:
        """The parameters of π for x of this shape."""

    @abstractmethod
    def log_pi(self, x: Tensor) -> Tensor:
        """log π(x), nats: x (..., event) to (...)."""

    @abstractmethod
    def entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^0 = x^0), nats, exact: x0 (*t.shape, ..., event) to (*t.shape, ...)."""

    @abstractmethod
    def step_entropy(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """H_q(X^t|X^{t−1}) given x^0, nats, exact, the upper bound of (24): x0 (*t.shape, ...,
        event) to (*t.shape, ...).
        """

    @abstractmethod
    def cross_entropy_pi(self, x0: Tensor, t: Tensor | int) -> Tensor:
        """−E_q(x^t|x^0) log π(x^t), nats, exact: x0 (*t.shape, ..., event) to (*t.shape, ...)."""

    @abstractmethod
    def entropy_pi(self, x0: Tensor) -> Tensor:
        """H_p(X^T), the entropy of π for examples shaped like x0, nats (14): (..., event) to (...)."""
