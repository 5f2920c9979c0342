"""A binomial chain of so few bits that every state and trajectory can be summed: the paper's
integrals as products of matrices, against which what the library draws is checked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Bernoulli, Reverse
from nonequilibrium.diffusion.kernels import BinomialKernel


class Enumerated:
    """All states of d bits under a kernel and a reverse; log probabilities are in nats.

    states: (S, d) bits, S = 2^d. q[t], p[t]: (S, S) with q[t][i, j] = q(x^t = j|x^{t−1} = i) and
    p[t][i, j] = p(x^{t−1} = j|x^t = i), for t = 1..T. pi: (S,).
    """

    @torch.no_grad()
    def __init__(self, kernel: BinomialKernel, reverse: Reverse[Bernoulli], d: int):
        self.kernel = kernel
        bit = torch.arange(2.0, dtype=torch.float64)
        self.states = torch.cartesian_prod(*[bit] * d).reshape(-1, d)
        self.q = {t: self.matrix(kernel.q_step(self.states, t)) for t in range(1, kernel.T + 1)}
        self.p = {t: self.matrix(reverse(self.states, t)) for t in range(2, kernel.T + 1)}
        self.p[1] = self.matrix(kernel.p_edge(self.states))
        self.pi = torch.exp(kernel.log_pi(self.states))

    def matrix(self, rows: Bernoulli) -> Tensor:
        """Probabilities of each state (columns) under the bits of each row."""
        columns = Bernoulli(rows.logit[:, None].expand(-1, len(self.states), -1))
        return torch.exp(self.kernel.log_prob(self.states.expand_as(columns.logit), columns))

    def forward_marginal(self, t: int) -> Tensor:
        """q(x^t = j|x^0 = i), (S, S): the steps of (2) multiplied out."""
        result = torch.eye(len(self.states), dtype=torch.float64)
        for s in range(1, t + 1):
            result = result @ self.q[s]
        return result

    def model_marginal(self, t: int) -> Tensor:
        """p(x^t), (S,): the integral (6) over all later states, from π at T."""
        result = self.pi
        for s in range(self.kernel.T, t, -1):
            result = result @ self.p[s]
        return result

    def average_ratio(self) -> Tensor:
        """E_q of the ratio in (9) for each x^0, (S,): (8) summed over forward trajectories."""
        total = self.pi  # at x^T
        for t in range(self.kernel.T, 0, -1):
            ratio = self.p[t].T / self.q[t]  # p(x^{t−1}|x^t)/q(x^t|x^{t−1}) at [x^{t−1}, x^t]
            total = (self.q[t] * ratio) @ total
        return total

    def K(self) -> Tensor:
        """E_q log of the same ratio for each x^0, (S,) nats: (12) directly, not by (14)'s terms."""
        result = torch.zeros(len(self.states), dtype=torch.float64)
        for t in range(1, self.kernel.T + 1):
            at_step = (self.q[t] * torch.log(self.p[t].T / self.q[t])).sum(1)
            result = result + self.forward_marginal(t - 1) @ at_step
        return result + self.forward_marginal(self.kernel.T) @ torch.log(self.pi)

    def reverse_entropy(self, q0: Tensor, t: int) -> Tensor:
        """H_q(X^{t−1}|X^t) for data of law q0 (S,), nats: what (24) brackets."""
        joint = (q0 @ self.forward_marginal(t - 1))[:, None] * self.q[t]
        return torch.special.entr(joint).sum() - torch.special.entr(joint.sum(0)).sum()

    def perturbed_marginals(self, r: list[Tensor]) -> list[Tensor]:
        """p̃(x^t) = p(x^t) r_t(x^t)/Z̃_t (16) for t = 0..T, (S,) each, as the T + 1 of r."""
        products = [self.model_marginal(t) * r[t] for t in range(self.kernel.T + 1)]
        return [product / product.sum() for product in products]

    def perturbed_step(self, t: int, r: Tensor) -> Tensor:
        """p̃(x^{t−1}|x^t) = p(x^{t−1}|x^t) r(x^{t−1})/Z̃(x^t) (22), (S, S); r: (S,) at t − 1."""
        product = self.p[t] * r
        return product / product.sum(1, keepdim=True)

    def looked_through(self, r0: Tensor) -> list[Tensor]:
        """r_t(x^t) = E[r(x^0)|x^t] under the model, t = 0..T, (S,) each: with it (22) is exact."""
        result = [r0]
        for t in range(1, self.kernel.T + 1):
            result.append(self.p[t] @ result[-1])
        return result
