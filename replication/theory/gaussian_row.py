"""Posterior sampling of a row of correlated Gaussian pixels without a draw: what each way of
inpainting samples, exactly.

For x^0 ~ N(0, C) the best diagonal reverse kernel is linear in x^t, and so is each factor r of
``diffusion``. A sample given the known pixels y is therefore N(M y, S), and M and S follow from
sending unit vectors of x^t and of y through every step. The exact posterior is Gaussian as well, so
the divergence of the one from the other is a closed form.

The conjugate gradients of ``Through`` are linear in what they solve once they have converged, or
with no step at all (``solve`` = 0). With a few steps they are not, and M and S come from draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Normal
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import Inpaint
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule

Make = Callable[[Tensor], Factor]  # from known pixels y (n, d), zero where hidden, to the factor r
SOLVE = 0, 2, 8, 40  # steps of conjugate gradients: 40 solve for 16 known pixels to the last digit
NOT_AFFINE = "solve = 2", "solve = 8"


class Row:
    """d pixels with correlation ``correlation`` between neighbours, its chain of T steps, and its
    best diagonal reverse kernel.
    """

    def __init__(
        self,
        correlation: float,
        T: int,
        d: int = 32,
        missing: int = 16,
        beta_1=1e-4,
        alpha_bar_T=1e-4,
    ):
        place = torch.arange(d, dtype=torch.float64)
        self.C = correlation ** (place[:, None] - place).abs()
        self.known = (place - (d - 1) / 2).abs() > missing / 2
        self.kernel = GaussianKernel(
            schedule("even_log_snr", T, beta_1=beta_1, alpha_bar_T=alpha_bar_T)
        )
        self._best = {t: self._of(t) for t in range(2, T + 1)}

    def _of(self, t: int) -> tuple[Tensor, Tensor]:
        """(A, v) of p(x^{t−1}|x^t) = N(A x^t, diag v), from the joint law of x^{t−1} and x^t."""
        k, eye = self.kernel, torch.eye(len(self.C), dtype=torch.float64)
        before = k.alpha_bar[t - 1] * self.C + k.one_minus_alpha_bar[t - 1] * eye
        now = (1 - k.beta[t]) * before + k.beta[t] * eye
        A = (1 - k.beta[t]).sqrt() * torch.linalg.solve(now, before).T
        return A, (before - (1 - k.beta[t]).sqrt() * A @ before).diagonal()

    def reverse(self, xt: Tensor, t: Tensor | int) -> Normal:
        """xt (n, d) and one step t ≥ 2."""
        A, v = self._best[int(t)]
        return Normal(xt @ A.T, v.expand_as(xt))

    def ways(self) -> dict[str, Make]:
        """The ways by which known pixels enter: name to factor."""

        def through(steps: int) -> Make:
            return lambda y: Through(self.reverse, Mask(self.known), y, 0.0, steps)

        return {
            "constant r": lambda y: Inpaint(y, self.known),
            "replacement": lambda y: Inpaint(y, self.known, annealed=True),
            **{f"through the model, solve = {steps}": through(steps) for steps in SOLVE},
        }

    # ------------------------------------------------------------ what is sampled

    def propagated(self, make: Make) -> tuple[Tensor, Tensor]:
        """(M, S), (d, d) each: the sampler's x^0 given y is N(M y, S). For factors that are affine
        in x^t and y together.
        """
        d, T = len(self.C), self.kernel.T
        eye, zero = torch.eye(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
        # Rows: unit vectors of x^t with y = 0, then of y with x^t = 0. Where y is hidden its unit
        # vectors are zero.
        x, r = torch.cat([eye, zero]), make(torch.cat([zero, eye * self.known]))
        start = r(self.kernel, self.kernel.stationary((2 * d, d), torch.float64), None, T + 1)
        M, S = start.mean[d:].T, torch.diag(start.var.expand(2 * d, d)[0])
        for t in range(T, 0, -1):
            p = self.kernel.p_edge(x) if t == 1 else self.reverse(x, t)
            p = r(self.kernel, p, x, t)
            on_x, on_y = p.mean[:d].T, p.mean[d:].T
            M, S = on_x @ M + on_y, on_x @ S @ on_x.T + torch.diag(p.var.expand(2 * d, d)[0])
        return M, S

    def drawn(self, make: Make, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(M, S) fitted to n samples by least squares, known pixels drawn from their law; for
        factors that are not affine.
        """
        y = (
            torch.randn(n, len(self.C), generator=generator, dtype=torch.float64)
            @ torch.linalg.cholesky(self.C).T
        )
        y = torch.where(self.known, y, 0.0)
        skip = Through.skip if isinstance(r := make(y), Through) else self.reverse
        x = sample(self.kernel, skip, tuple(y.shape), generator, r=r)
        M = torch.zeros_like(self.C)
        M[:, self.known] = torch.linalg.lstsq(y[:, self.known], x).solution.T
        rest = x - y @ M.T
        return M, rest.T @ rest / (n - int(self.known.sum()))

    # ------------------------------------------------------------ beside the exact posterior

    def posterior(self) -> tuple[Tensor, Tensor]:
        """(M, S) of the exact posterior of missing pixels given known ones: (missing, known) and
        (missing, missing).
        """
        hole, known = ~self.known, self.known
        M = torch.linalg.solve(self.C[known][:, known], self.C[known][:, hole]).T
        return M, self.C[hole][:, hole] - M @ self.C[known][:, hole]

    def expected_kl(self, M: Tensor, S: Tensor) -> float:
        """E over known pixels of KL( sampler ‖ exact posterior ) on the missing ones, nats."""
        hole, known = ~self.known, self.known
        off, S = M[hole][:, known], S[hole][:, hole]
        exact, P = self.posterior()
        off = off - exact
        spread = off @ self.C[known][:, known] @ off.T
        trace = torch.linalg.solve(P, S + spread).diagonal().sum()
        return float(0.5 * (trace - hole.sum() + torch.logdet(P) - torch.logdet(S)))

    def bias(self, n: int) -> float:
        """By how much ``expected_kl`` of M and S fitted to n draws exceeds that of the true ones on
        average, nats.

        Exact where the true ones are the exact posterior's: S has a Wishart distribution, and M's
        error an inverse Wishart one.
        """
        hole, known = int((~self.known).sum()), int(self.known.sum())
        freedom = torch.tensor(n - known, dtype=torch.float64)
        steps = torch.arange(hole, dtype=torch.float64)
        log_det = (torch.log(freedom / 2) - torch.digamma((freedom - steps) / 2)).sum()
        return float(0.5 * (hole * known / (freedom - 1) + log_det))


def row_divergences(
    correlations: Sequence[float], sizes: Sequence[int], draws: int, seed: int
) -> list[dict[str, float | int | str]]:
    """KL to the exact posterior of each way of inpainting: a row for each correlation, T and way,
    in nats.

    draws: samples for the ways that are not affine, in four parts whose spread gives the standard
    error of their rows.
    """
    rows: list[dict[str, float | int | str]] = []
    for correlation in correlations:
        for T in sizes:
            row = Row(correlation, T)
            for way, make in row.ways().items():
                entry: dict[str, float | int | str] = {
                    "correlation": correlation,
                    "T": T,
                    "way": way,
                }
                if way.endswith(NOT_AFFINE):
                    generator, parts = torch.Generator().manual_seed(seed), 4
                    each = draws // parts
                    kl = torch.tensor(
                        [row.expected_kl(*row.drawn(make, each, generator)) for _ in range(parts)]
                    )
                    entry |= {
                        "KL": float(kl.mean()) - row.bias(each),
                        "KL_se": float(kl.std()) / parts**0.5,
                    }
                else:
                    entry["KL"] = row.expected_kl(*row.propagated(make))
                rows.append(entry)
    return rows
