"""Posteriors of rows of correlated Gaussian pixels beside exact ones: in closed form, by particles.

For x^0 ~ N(0, C) the best diagonal reverse kernel is linear in x^t, and so is each factor r here. A
sample given known pixels y is therefore N(M y, S), and unit vectors of x^t and y sent through every
step give M and S. Divergences are in nats, from the exact posterior of the data's law.
"""

import itertools
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor, Normal
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.particles import Collapsed, Particles, particles
from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.diffusion.schedules import schedule
from replication.measure.metrics import seeded
from replication.settings.settings import profile as sizes_of

CORRELATION, VAR = 0.9, 1.0  # between neighbours; of the noise in y, a signal-to-noise ratio of 1
PAIR = 2.0, 0.0  # y of two pixels
BACK_AND_FORTH = 0, 1, 4, 16, 64
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
        held, seen = partial(Inpaint, known=self.known), Mask(self.known)
        through = partial(Through, self.reverse, seen, var=0.0)
        ways: dict[str, Make] = {"constant r": held, "replacement": partial(held, annealed=True)}
        names = {f"through the model, solve = {steps}": steps for steps in SOLVE}
        return ways | {name: partial(through, solve=steps) for name, steps in names.items()}

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


def posteriors(profile: str, seed: int = 7) -> dict:
    """KL of each way of inpainting; reports/metrics/posteriors.json. Raises ParameterError."""
    sizes, rows = sizes_of("theory", profile)["row"], []
    for correlation, T in itertools.product(sizes["correlations"], sizes["sizes"]):
        row = Row(correlation, T)
        for way, make in row.ways().items():
            KL = row.expected_kl(*row.propagated(make))
            rows.append({"correlation": correlation, "T": T, "way": way, "KL": KL})
    return {"profile": profile, "seed": seed, "row": rows}


def weighted(profile: str, seed: int = 7) -> dict:
    """``particles`` in reports/metrics/posteriors.json. Raises ParameterError.

    Rows are the law of one sample, drawn by its weight from n particles; n = 1 is the paper's
    recipe. The T steps leave a divergence that no number of particles mends.
    """
    sizes, forth = sizes_of("weighted", profile), []
    for correlation, times in itertools.product(sizes["correlations"], BACK_AND_FORTH):
        row = Row(correlation, 50)
        kl = row.expected_kl(*row.propagated(row.ways()["replacement"], times))
        forth.append({"correlation": correlation, "times": times, "KL": kl})
    pair, long = pair_rows(**sizes["pair"], seed=seed), row_rows(**sizes["row"], seed=seed)
    return {"pair": {"rows": pair}, "row": {"rows": long}, "renoised": forth}


def run(row: Row, runs: int, n: int, r: Factor, seed: int) -> Particles:
    """Particles of a row of pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Collapsed)  # which the rows show
        return particles(row.kernel, row.reverse, (runs, n, len(row.C)), seeded(seed), r)


def divergence(drawn: Particles, mean: Tensor, cov: Tensor) -> float:
    """KL of the law of one sample, by its mean and covariance, from N(mean, cov), nats."""
    square = drawn.x[..., None] * drawn.x[..., None, :]
    m = drawn.expectation(drawn.x).mean(0)
    S = drawn.expectation(square).mean(0) - m[:, None] * m
    trace = torch.linalg.solve(cov, S + (m - mean)[:, None] * (m - mean)).trace()
    return float(0.5 * (trace - len(m) + torch.logdet(cov) - torch.logdet(S)))


def pair_rows(sizes, counts, draws: int, seed: int) -> list[dict]:
    """Two pixels seen in noise, by r, T and number of particles."""
    y, rows = torch.tensor(PAIR, dtype=torch.float64), []
    ways = ("constant r", False), ("annealed r", True)
    for T in sizes:
        row = Row(CORRELATION, T, 2, 0)
        gain = row.C @ torch.linalg.inv(row.C + VAR * torch.eye(2, dtype=torch.float64))
        exact = gain @ y, row.C - gain @ row.C  # of x^0 ~ N(0, C) given y = x^0 + noise
        for (way, annealed), n in itertools.product(ways, counts):
            drawn = run(row, draws // n, n, Denoise(y, VAR, annealed), seed + T)
            KL = divergence(drawn, *exact)
            rows.append({"way": way, "T": T, "particles": n, "KL": KL})
    return rows


def row_rows(T: int, counts, draws: int, seed: int) -> list[dict]:
    """The same for a row of 32 pixels: how many particles have descendants."""
    row, random, rows = Row(CORRELATION, T, 32, 0), seeded(seed), []
    white, noise = (torch.randn(32, generator=random, dtype=torch.float64) for _ in range(2))
    y = torch.linalg.cholesky(row.C) @ white + VAR**0.5 * noise
    seen = Mask(torch.ones(32, dtype=torch.bool))
    for n in counts:
        few = draws // 4 // n  # derivatives through the reverse, eight per step
        through = Through(row.reverse, seen, y.expand(few * n, 32), VAR, solve=8)
        constant: Factor = Denoise(y, VAR)
        ways = ("constant r", draws // n, constant), ("through the model", few, through)
        for way, runs, r in ways:
            ancestors = float(run(row, runs, n, r, seed + n).ancestors.double().mean())
            rows.append({"way": way, "T": T, "particles": n, "ancestors": ancestors})
    return rows
