"""Posteriors with a known answer: mixtures of Gaussians, seen through a matrix in Gaussian noise.

Every law that occurs is such a mixture: the data, x^0 given x^t, and the posterior. So the denoiser
and the reverse kernel are exact, and what a sampler misses is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.data.toys import SwissRoll
from nonequilibrium.diffusion.chain import Normal
from nonequilibrium.diffusion.evidence import Blur, Downsample, Mask
from nonequilibrium.diffusion.kernels import GaussianKernel

IMAGE = (1, 4, 8)  # the shape of 32 pixels


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
        """Mean and variances of x^0 given x = x^0 + noise of ``var``: each (n, d) as x."""
        values, axes = self.axes
        total = values + var
        off = (x[:, None] - self.mean) @ axes  # (n, k, d)
        log_p = self.weight.log() - 0.5 * (off**2 / total).sum(-1)
        share = torch.softmax(log_p, -1)[..., None]
        means = self.mean + (off * values / total) @ axes.mT
        mean = (share * means).sum(1)
        within = (axes**2) @ (values * var / total)
        return mean, within + (share * (means - mean[:, None]) ** 2).sum(1)

    def given(self, A: Tensor, y: Tensor, var: float) -> Mixture:
        """The posterior given y (m,) = A x^0 + noise of variance ``var``; A (m, d)."""
        S = A @ self.cov @ A.mT + var * torch.eye(len(A)).to(A)
        gain, off = self.cov @ A.mT @ torch.linalg.inv(S), y - self.mean @ A.mT
        log_p = self.weight.log() - 0.5 * (off * torch.linalg.solve(S, off.mT).mT).sum(-1)
        cov = self.cov - gain @ A @ self.cov
        return Mixture(torch.softmax(log_p, 0), self.mean + off @ gain.mT, 0.5 * (cov + cov.mT))

    def scaled(self, scale: float, shift: float) -> Mixture:
        """The law of scale · x + shift."""
        return Mixture(self.weight, scale * self.mean + shift, scale**2 * self.cov)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d)."""
        mean = self.weight @ self.mean
        off = self.mean - mean
        return mean, self.cov + (self.weight[:, None] * off).mT @ off

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples (n, d)."""
        values, axes = self.axes
        k = torch.multinomial(self.weight, n, replacement=True, generator=generator)
        noise = torch.randn(n, len(values), generator=generator).to(values)
        return self.mean[k] + (values.sqrt() * noise) @ axes.mT

    def reverse(self, kernel: GaussianKernel) -> Callable[[Tensor, int], Normal]:
        """p(x^{t−1}|x^t) with the exact mean and variances; exact as steps become short."""

        def step(xt: Tensor, t: int) -> Normal:
            signal, left = kernel.alpha_bar[t], kernel.one_minus_alpha_bar[t]
            flat = xt.reshape(len(xt), -1) / signal.sqrt()
            x0, var = self.given_noisy(flat, left / signal)
            q = kernel.q_posterior(x0.reshape(xt.shape), xt, t)
            slope = kernel.at(kernel.posterior_on_x0, t, xt)
            return Normal(q.mean, q.var + slope**2 * var.reshape(xt.shape))

        return step


@dataclass
class Problem:
    """y = A x^0 + noise of variance ``var`` for x^0 (shape) of a known law."""

    law: Mixture
    A: Any  # a ``Linear``, or None for the identity
    var: float
    y: Tensor  # shaped like A(x) of one x, zero where a mask hides it
    shape: tuple[int, ...]

    @cached_property
    def seen(self) -> Tensor:
        """Which entries of y are observed, bool, shaped like y."""
        masked = isinstance(self.A, Mask)
        return self.A.known.expand(self.y.shape) if masked else torch.ones_like(self.y).bool()

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
    def is_hole(self) -> bool:
        """Whether all that a mask shows is known nearly without noise."""
        return isinstance(self.A, Mask) and self.var < 0.01

    @property
    def judged(self) -> Tensor:
        """The coordinates (d,) that are judged: the missing ones of a hole, else all."""
        return ~self.seen.flatten() if self.is_hole else torch.ones_like(self.law.mean[0]).bool()


def row(correlation: float, shape: tuple[int, ...]) -> Mixture:
    """Pixels of variance 1 whose correlation is ``correlation`` to the power of their distance."""
    place = torch.cartesian_prod(*map(torch.arange, shape[-2:])).double()
    cov = correlation ** torch.cdist(place, place, 1)
    return Mixture(torch.ones(1).double(), torch.zeros(1, len(cov)).double(), cov)


def problems() -> dict[str, Problem]:
    """The problems by name; y of the images is drawn with seed 0."""
    one, two, random = (1, 1, 1), (1, 1, 2), torch.Generator().manual_seed(0)
    y1, y2 = torch.full(one, 1.5).double(), torch.tensor([[[2.0, 0.0]]]).double()
    found = {f"one pixel, σ = {s}": Problem(row(0, one), None, s**2.0, y1, one) for s in (1, 2)}
    for rho in (0.5, 0.9, 0.99):
        found[f"two pixels, ρ = {rho}"] = Problem(row(rho, two), None, 1.0, y2, two)
    images, known = row(0.9, IMAGE), torch.ones(IMAGE).bool()
    known[..., 2:6] = False
    x = images.sample(1, random).reshape(1, *IMAGE)
    for name, A, var in (
        ("noise, σ = 1", None, 1.0),
        ("noise, σ = 0.2", None, 0.04),
        ("hole", Mask(known), 0.0025),
        ("blur", Blur(1.0), 0.01),
        ("4× down-sampling", Downsample(4), 0.01),
    ):
        y = x if A is None else A(x)
        y = y + var**0.5 * torch.randn(y.shape, generator=random, dtype=torch.float64)
        y = (A(y) if isinstance(A, Mask) else y)[0]
        found[f"32 pixels, {name}"] = Problem(images, A, var, y, IMAGE)
    first, roll = Mask(torch.tensor([[[True, False]]])), SwissRoll(0.1)
    modes = torch.tensor([[-1.0, -0.8], [1.0, 0.8]]).double()
    both = Mixture(torch.full((2,), 0.5).double(), modes, 0.04 * torch.eye(2).double())
    spread = roll.noise**2 * torch.eye(2).double()
    curve = Mixture(torch.full((200,), 1 / 200).double(), roll.curve(roll.theta_grid(200)), spread)
    seen = torch.tensor([[[0.3, 0.0]]]).double()
    found["two modes"] = Problem(both, first, 0.5, seen, two)
    return found | {"swiss roll": Problem(curve, first, 0.04, seen, two)}


def measures(x: Tensor, problem: Problem, truth: Tensor) -> dict[str, float]:
    """How far samples x (n, d) are from the posterior, of which ``truth`` (m, d) are exact samples.

    mean: root mean square error of the mean, in posterior deviations. deviation: the samples' over
    the posterior's. coverage: how often the truth lies between the samples' 5 % and 95 % quantiles.
    KL of the fitted Gaussian, nats, less its bias; or the energy distance; mode: share of the upper
    of two.
    """
    part, law = problem.judged, problem.posterior
    mean, cov = (value[part] for value in law.moments())
    x, truth, cov = x[:, part], truth[:, part], cov[:, part]
    off, own = x.mean(0) - mean, x.mT.cov().reshape(cov.shape)
    ratio = own.diagonal() / cov.diagonal()
    low, high = x.quantile(torch.tensor([0.05, 0.95]).to(x), 0)
    found = {"mean": float((off**2 / cov.diagonal()).mean().sqrt())}
    found["deviation"] = float(ratio.mean().sqrt())
    found["coverage"] = float(((truth > low) & (truth < high)).double().mean())
    if len(law.weight) == 1:
        scaled, d = torch.linalg.solve(cov, own), len(off)
        inside = scaled.trace() - d - torch.logdet(scaled) + off @ torch.linalg.solve(cov, off)
        return found | {"KL": float(0.5 * inside) - d * (d + 3) / (4 * len(x))}
    some = truth[:4000]
    between, within = torch.cdist(x, some).mean(), (torch.pdist(x).mean(), torch.pdist(some).mean())
    found["energy"] = float(2 * between - sum(within))
    return found | ({"mode": float((x[:, 0] > 0).double().mean())} if len(law.weight) == 2 else {})


def judged(groups: list[Tensor], problem: Problem) -> dict[str, float]:
    """``measures`` of independent groups of samples (n, d), each with a jackknife error, _se."""
    truth = problem.posterior.sample(20_000, torch.Generator().manual_seed(1))
    found, G = measures(torch.cat(groups), problem, truth), len(groups)
    rest = [torch.cat(groups[:k] + groups[k + 1 :]) for k in range(G)]
    without = [measures(x, problem, truth) for x in rest]
    for name in list(found):
        values = torch.tensor([row[name] for row in without])
        found[f"{name}_se"] = float(((G - 1) * values.var(correction=0)).sqrt())
    return found
