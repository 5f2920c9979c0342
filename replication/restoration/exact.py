"""Posteriors with a known answer: mixtures of Gaussians, seen through a matrix in Gaussian noise.

The law of the data, that of x^0 given x^t and the posterior are all such mixtures. So the denoiser
and the reverse kernel are exact, and what a sampler misses, ours at the end, is its own.
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.evidence import Mask, Through
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.particles import particles
from nonequilibrium.diffusion.posterior import Denoise, Inpaint, denoised, excess
from nonequilibrium.diffusion.sampling import sample
from nonequilibrium.diffusion.schedules import schedule
from replication.measure.metrics import seeded

BASELINE = "exact posterior, no r"  # its own denoiser: what is lost is lost by the chain


@dataclass
class Mixture:
    """Σ_k weight_k N(mean_k, cov): weight (k,), mean (k, d), cov (d, d) of every component."""

    weight: Tensor
    mean: Tensor
    cov: Tensor

    @cached_property
    def axes(self) -> tuple[Tensor, Tensor]:
        """Variances (d,) along the principal axes, and these axes, the columns of (d, d)."""
        values, vectors = torch.linalg.eigh(self.cov)
        return values.clamp(min=0), vectors

    def given_noisy(self, x: Tensor, var: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean and variances of x^0 given x = x^0 + noise of variance ``var``: (n, d) each."""
        values, axes = self.axes
        off = (x[:, None] - self.mean) @ axes  # (n, k, d)
        log_p = self.weight.log() - 0.5 * (off**2 / (values + var)).sum(-1)
        share = torch.softmax(log_p, -1)[..., None]
        means = self.mean + (off * values / (values + var)) @ axes.mT
        mean, within = (share * means).sum(1), axes**2 @ (values * var / (values + var))
        return mean, within + (share * (means - mean[:, None]) ** 2).sum(1)

    def given(self, A: Tensor, y: Tensor, var: float) -> "Mixture":
        """The posterior given y (m,) = A x^0 + noise of variance ``var``; A (m, d)."""
        S, off = A @ self.cov @ A.mT + var * torch.eye(len(A)).to(A), y - self.mean @ A.mT
        gain = torch.linalg.solve(S, A @ self.cov).mT
        log_p = self.weight.log() - 0.5 * (off * torch.linalg.solve(S, off.mT).mT).sum(-1)
        return Mixture(log_p.softmax(0), self.mean + off @ gain.mT, self.cov - gain @ A @ self.cov)

    def scaled(self, scale: float, shift: float) -> "Mixture":
        """The law of scale · x + shift."""
        return Mixture(self.weight, scale * self.mean + shift, scale**2 * self.cov)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d)."""
        mean = self.weight @ self.mean
        return mean, self.cov + (self.weight * (self.mean - mean).mT) @ (self.mean - mean)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples (n, d)."""
        values, axes = self.axes
        k = torch.multinomial(self.weight, n, replacement=True, generator=generator)
        noise = torch.randn(n, len(values), generator=generator, dtype=torch.float64)
        return self.mean[k] + (values.sqrt() * noise) @ axes.mT

    def reverse(self, kernel: GaussianKernel, xt: Tensor, t: int) -> Normal:
        """p(x^{t−1}|x^t) with the exact mean and variances, so exact as steps become short."""
        signal, left = kernel.alpha_bar[t], kernel.one_minus_alpha_bar[t]
        x0, var = self.given_noisy(xt.flatten(1) / signal.sqrt(), left / signal)
        q = kernel.q_posterior(x0.reshape(xt.shape), xt, t)
        spread = kernel.at(kernel.posterior_on_x0, t, xt) ** 2 * var.reshape(xt.shape)
        return Normal(q.mean, q.var + spread)


@dataclass
class Problem:
    """y = A x^0 + noise of variance ``var``, for x^0 of a known law in ``shape`` (c, h, w)."""

    law: Mixture
    A: Any  # a ``Linear``, or None for the identity
    var: float
    y: Tensor  # shaped like A(x) of one x, zero where a mask hides it
    shape: tuple[int, ...]

    @property
    def seen(self) -> Tensor:
        """Which entries of y are observed, bool, shaped like y."""
        return getattr(self.A, "known", torch.ones(1).bool()).expand(self.y.shape)

    @cached_property
    def matrix(self) -> Tensor:
        """A as a matrix (m, d), without the rows of pixels that a mask hides."""
        eye = torch.eye(math.prod(self.shape), dtype=torch.float64).reshape(-1, *self.shape)
        rows = (eye if self.A is None else self.A(eye)).flatten(1).mT
        return rows[self.seen.flatten()]

    @cached_property
    def posterior(self) -> Mixture:
        """The exact law of x^0 given y."""
        return self.law.given(self.matrix, self.y[self.seen], self.var)

    @property
    def hole(self) -> bool:
        """Whether a mask shows the other pixels nearly without noise; then the hole is judged."""
        return isinstance(self.A, Mask) and self.var < 0.01


def measures(x: Tensor, problem: Problem, truth: Tensor) -> dict[str, float]:
    """How far samples x (n, d) are from the posterior, of which ``truth`` (m, d) are exact samples.

    mean: its root mean square error in posterior deviations. coverage: of the truth by the samples'
    central 90 %. KL: of the fitted Gaussian, nats, less its bias. upper: the share of x_1 > 0.
    """
    part = ~problem.seen.flatten() if problem.hole else torch.ones(x.shape[1]).bool()
    mean, cov = problem.posterior.moments()
    x, truth, off, cov = x[:, part], truth[:, part], (x.mean(0) - mean)[part], cov[part][:, part]
    own, ends = x.mT.cov().reshape(cov.shape), torch.tensor([0.05, 0.95]).to(x)
    (low, high), found = x.quantile(ends, 0), {"mean": (off**2 / cov.diagonal()).mean().sqrt()}
    found["deviation"] = (own.diagonal() / cov.diagonal()).mean().sqrt()
    found["coverage"] = ((truth > low) & (truth < high)).double().mean()
    if len(problem.law.weight) == 1:
        ratio, d = torch.linalg.solve(cov, own), len(off)
        twice = ratio.trace() - d - ratio.det().log() + off @ torch.linalg.solve(cov, off)
        found["KL"] = twice / 2 - d * (d + 3) / (4 * len(x))
    else:
        within = torch.pdist(x).mean() + torch.pdist(truth[:4000]).mean()
        found["energy"] = 2 * torch.cdist(x, truth[:4000]).mean() - within
        found["upper"] = (x[:, 0] > 0).double().mean()
    return {name: float(value) for name, value in found.items()}


def judged(x: Tensor, problem: Problem, parts: int = 8) -> dict[str, float]:
    """``measures`` of samples x (n, d), each with its error by a jackknife over parts, _se."""
    truth = problem.posterior.sample(20_000, seeded(1))
    found, groups = measures(x, problem, truth), x.chunk(parts)
    rest = [torch.cat([*groups[:k], *groups[k + 1 :]]) for k in range(parts)]
    without = [measures(some, problem, truth) for some in rest]
    for name in list(found):
        values = torch.tensor([row[name] for row in without])
        found[f"{name}_se"] = float(((parts - 1) * values.var(correction=0)).sqrt())
    return found


def ours(
    problem: Problem, n: int, seed: int, way: str, T: int = 100, number: int = 0
) -> tuple[Tensor, int] | None:
    """Samples (n, d) by one of our ways and the calls of the denoiser; None: not applicable.

    number: of conjugate-gradient steps, of renewed steps, or of particles.
    """
    A, var, random, calls = problem.A, problem.var, seeded(seed), []
    lengths = range(T, T + T // 2) if way == "exact chain" else [T]  # one has a step of this noise
    betas = (schedule("even_log_snr", T, beta_1=1e-4, alpha_bar_T=1e-4) for T in lengths)
    kernel = min((GaussianKernel(beta, 3) for beta in betas), key=lambda k: excess(k, var))
    law = problem.posterior if way == BASELINE else problem.law
    shape, y = (n, *problem.shape), problem.y.expand(n, *problem.y.shape)

    def reverse(xt: Tensor, t: Any) -> Normal:
        calls.append(t)
        return law.reverse(kernel, xt, t)

    draw = partial(sample, kernel, reverse, shape, random)
    seen = Mask(torch.ones(problem.shape).bool()) if A is None else A
    if way == BASELINE:
        x = draw()
    elif way == "exact chain" and A is None:
        x = denoised(kernel, reverse, y, var, random)
    elif way == "through the model":
        x = sample(kernel, Through.skip, shape, random, r=Through(reverse, seen, y, var, number))
    elif way in ("constant r", "annealed r") and A is None:
        x = draw(r=Denoise(y, var, way == "annealed r"))
    elif way in ("constant r", "replacement", "re-noised") and problem.hole:
        x = draw(r=Inpaint(y, A.known, way != "constant r"), times=number)
    elif way == "particles":
        y, shape = y.repeat_interleave(number, 0), (n, number, *problem.shape)
        r = Denoise(y, var, True) if A is None else Through(reverse, seen, y, var)
        x = particles(kernel, reverse, shape, random, r).sample(random)
    else:
        return None
    return x.flatten(1), len(calls)
