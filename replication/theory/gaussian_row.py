"""Posterior sampling of a row of correlated Gaussian pixels, in closed form.

For x^0 ~ N(0, C) the best diagonal reverse kernel is linear in x^t, and so is each factor r here. A
sample given known pixels y is therefore N(M y, S), and unit vectors of x^t and y sent through every
step give M and S.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Normal
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import Inpaint
from nonequilibrium.diffusion.schedules import schedule

Make = Callable[[Tensor], Factor]  # from known pixels y (n, d), zero where hidden, to the factor r
SOLVE = 0, 40  # steps of conjugate gradients: 40 solve for 16 known pixels to the last digit


class Row:
    """d pixels with ``correlation`` between neighbours, their chain of T steps and its optimum."""

    def __init__(self, correlation: float, T: int, d: int = 32, missing: int = 16):
        place = torch.arange(d, dtype=torch.float64)
        self.C = correlation ** (place[:, None] - place).abs()
        self.known = (place - (d - 1) / 2).abs() > missing / 2
        self.kernel = GaussianKernel(schedule("even_log_snr", T, beta_1=1e-4, alpha_bar_T=1e-4))
        self._best, k, eye = {}, self.kernel, torch.eye(d, dtype=torch.float64)
        for t in range(2, T + 1):  # (A, v) from the joint law of x^{t−1} and x^t
            before = k.alpha_bar[t - 1] * self.C + k.one_minus_alpha_bar[t - 1] * eye
            now = (1 - k.beta[t]) * before + k.beta[t] * eye
            A = (1 - k.beta[t]).sqrt() * torch.linalg.solve(now, before).T
            self._best[t] = A, (before - (1 - k.beta[t]).sqrt() * A @ before).diagonal()

    def reverse(self, xt: Tensor, t: Tensor | int) -> Normal:
        """p(x^{t−1}|x^t) = N(A x^t, diag v) of xt (n, d) and one step t ≥ 2."""
        A, v = self._best[int(t)]
        return Normal(xt @ A.T, v.expand_as(xt))

    def ways(self) -> dict[str, Make]:
        """The ways by which known pixels enter: name to factor."""
        held, through = partial(Inpaint, known=self.known), partial(Through, self.reverse, var=0.0)
        ways: dict[str, Make] = {"constant r": held, "replacement": partial(held, annealed=True)}
        for steps in SOLVE:
            name = f"through the model, solve = {steps}"
            ways[name] = partial(through, Mask(self.known), solve=steps)
        return ways

    def propagated(self, make: Make, times: int = 0) -> tuple[Tensor, Tensor]:
        """(M, S), (d, d) each: the sampler's x^0 given y is N(M y, S).

        times: how often each step t ≥ 2 is gone back and forth once more (``diffusion.renoise``).
        """
        d, T = len(self.C), self.kernel.T
        eye, zero = torch.eye(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
        # Rows: unit vectors of x^t with y = 0, then of y with x^t = 0; zero where y is hidden.
        x, r = torch.cat([eye, zero]), make(torch.cat([zero, eye * self.known]))
        start = r(self.kernel, self.kernel.stationary((2 * d, d), torch.float64), None, T + 1)
        M, S = start.mean[d:].T, torch.diag(start.var.expand(2 * d, d)[0])
        for t in range(T, 0, -1):
            p = r(self.kernel, self.kernel.p_edge(x) if t == 1 else self.reverse(x, t), x, t)
            on_x, on_y, added = p.mean[:d].T, p.mean[d:].T, torch.diag(p.var.expand(2 * d, d)[0])
            kept = 1 - self.kernel.beta[t]
            for again in range(times + 1 if t > 1 else 1):
                if again:
                    M, S = kept.sqrt() * M, kept * S + (1 - kept) * eye
                M, S = on_x @ M + on_y, on_x @ S @ on_x.T + added
        return M, S

    def posterior(self) -> tuple[Tensor, Tensor]:
        """(M, S) of the exact posterior of missing pixels: (missing, known), (missing, missing)."""
        hole, known = ~self.known, self.known
        M = torch.linalg.solve(self.C[known][:, known], self.C[known][:, hole]).T
        return M, self.C[hole][:, hole] - M @ self.C[known][:, hole]

    def expected_kl(self, M: Tensor, S: Tensor) -> float:
        """E over known pixels of KL( sampler ‖ exact posterior ) on the missing ones, nats."""
        hole, known = ~self.known, self.known
        exact, P = self.posterior()
        off, S = M[hole][:, known] - exact, S[hole][:, hole]
        spread = off @ self.C[known][:, known] @ off.T
        trace = torch.linalg.solve(P, S + spread).diagonal().sum()
        return float(0.5 * (trace - hole.sum() + torch.logdet(P) - torch.logdet(S)))
