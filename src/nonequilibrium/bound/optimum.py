"""What is possible at best: the optimal reverse kernels of the two toy data sets, K* and the true
log likelihood.

The best reverse kernel of the model's own family has the moments of q(x^{t−1}|x^t): the posterior
mean and variance of each coordinate (Gaussian), the posterior mean of each bit (binomial). Both
need the data law, which is known here. Because log p is linear in just those moments, for any model

    K* − K = Σ_{t=2..T} E_q(x^t) KL( optimal p*(x^{t−1}|x^t) ‖ model p(x^{t−1}|x^t) ),

which measures a model's shortfall directly and with little noise.

An optimum is a reverse like any other: called with (x^t, t) it returns the parameters of
p*(x^{t−1}|x^t), so the bound and the sampler take it where they take a network.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from nonequilibrium.bound.checks import (
    check_count,
    check_examples,
    check_optimum,
    checked,
    noise_generator,
)
from nonequilibrium.bound.tails import check_share, draw
from nonequilibrium.diffusion.chain import Bernoulli, Kernel, Normal, P, Reverse
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel

if TYPE_CHECKING:  # the laws come as arguments
    from nonequilibrium.data.toys import Heartbeat, SwissRoll


class PointsOptimum(Protocol):
    """The best reverse for a law of points, and the law's own density."""

    def __call__(self, xt: Tensor, t: Tensor | int, /) -> Normal:
        """The parameters of p*(x^{t−1}|x^t): xt (..., d) with one step t ≥ 2, or (b, n, d) with b
        steps.
        """

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) of the data law itself, nats per point: (n, d) to (n,)."""


class HeartbeatOptimum:
    """f_b*(x^t, t), the posterior mean of x^{t−1} over the five templates (paper's section 3.1.2,
    solved exactly).
    """

    def __init__(self, kernel: BinomialKernel, law: Heartbeat):
        self.kernel = kernel
        self.templates = law.templates()

    def __call__(self, xt: Tensor, t: Tensor | int) -> Bernoulli:
        """xt (..., 20) bits and steps t ≥ 2 on its leading axes; returns logits of that shape."""
        x0 = self.templates.to(xt.dtype)
        xt = xt[..., None, :]  # the templates get an axis of their own: (..., 5, 20)
        x0 = x0.expand(*xt.shape[:-2], *x0.shape)
        weight = torch.softmax(self.kernel.log_prob(xt, self.kernel.q_marginal(x0, t)), -1)[
            ..., None
        ]
        posterior = self.kernel.q_posterior(x0, xt.expand_as(x0), t)
        one, zero = torch.sigmoid(posterior.logit), torch.sigmoid(-posterior.logit)
        return Bernoulli(torch.log((weight * one).sum(-2)) - torch.log((weight * zero).sum(-2)))


def heartbeat_optimal_kl(kernel: BinomialKernel, law: Heartbeat, block: int = 50) -> Tensor:
    """E_q KL( q(x^{t−1}|x^t,x^0) ‖ p* ) for t = 0..T, nats per sequence, shape (T + 1,); zero at t
    < 2. Exact.

    The chain treats alike all bits of a residue class, so x^t matters only by its counts of ones in
    the five
    classes: 5^5 states. By symmetry x^0 may be the template of class 0, and then the other four
    classes may be sorted.
    """
    per_class = law.dim // law.period
    others = list(itertools.combinations_with_replacement(range(per_class + 1), law.period - 1))
    counts = torch.tensor([(first, *rest) for first in range(per_class + 1) for rest in others])
    orders = [
        math.factorial(law.period - 1) // math.prod(math.factorial(r.count(c)) for c in set(r))
        for r in others
    ]
    arrangements = torch.tensor([math.comb(per_class, c) for c in range(per_class + 1)])[
        counts
    ].prod(1)
    arrangements = arrangements * torch.tensor(orders * (per_class + 1))
    # One representative x^t a state: within each class the ones come first.
    bins = torch.arange(law.dim)
    xt = (bins // law.period < counts[:, bins % law.period]).double()
    x0 = law.templates()[0].expand_as(xt)
    optimum = HeartbeatOptimum(kernel, law)
    kl = torch.zeros(kernel.T + 1, dtype=torch.float64)
    for t in torch.arange(2, kernel.T + 1).split(block):
        x, x_0 = xt.expand(len(t), *xt.shape), x0.expand(len(t), *x0.shape)
        weight = arrangements * torch.exp(kernel.log_prob(x, kernel.q_marginal(x_0, t)))
        kl[t] = (weight * kernel.kl(kernel.q_posterior(x_0, x, t), optimum(x, t))).sum(1)
    return kl


def _gauss_legendre(at_least: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [−1, 1], a power of two of them, so that few rules serve all steps."""
    return _gauss_legendre_rule(2 ** max(6, math.ceil(math.log2(at_least))))


@lru_cache
def _gauss_legendre_rule(n: int) -> tuple[Tensor, Tensor]:
    from scipy import special  # here, because a machine that only trains need not have it

    place, weight = special.roots_legendre(n)
    return torch.tensor(place), torch.tensor(weight)


class SwissRollOptimum:
    """Posterior mean and variance of x^{t−1} given x^t for a swiss roll, by quadrature along the
    curve.

    Given θ everything is Gaussian; the integral over θ is a Gauss–Legendre sum with several nodes
    for each width of its integrand. Where the noise is small beside the distance between turns,
    only the part of the curve near x^t is summed.
    """

    reach = 9.0  # widths of the integrand on each side of the nearest point of the curve
    per_width = 4.0  # nodes a width
    local_below = 0.06  # widths smaller than this see one turn only: the turns are 0.9 apart

    def __init__(self, kernel: GaussianKernel, law: SwissRoll):
        self.kernel, self.law = kernel, law
        self._coarse = law.theta_grid(4096)
        self._coarse_curve = law.curve(self._coarse)
        self._fastest = float(law.speed(self._coarse).max())

    def nodes(self, x: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """Nodes θ and log weights for points x (n, 2) in data coordinates: (n, m) each, or (1, m)
        for all points.
        """
        law = self.law
        low, high = (
            torch.full((1,), law.theta_min).double(),
            torch.full((1,), law.theta_max).double(),
        )
        if width < self.local_below:
            nearest = self._coarse[torch.cdist(x, self._coarse_curve).argmin(1)]
            half = self.reach * width / law.speed(nearest) + float(
                self._coarse[1] - self._coarse[0]
            )
            low, high = torch.maximum(nearest - half, low), torch.minimum(nearest + half, high)
        longest = float((high - low).max()) * self._fastest
        place, weight = _gauss_legendre(self.per_width * longest / width)
        theta = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * place
        density = (high - low) / (2 * (law.theta_max - law.theta_min))
        return theta, torch.log(density)[:, None] + torch.log(weight)

    def log_joint(self, x: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """Nodes θ and log p(x, θ) dθ there, for x = c(θ) + width · ε: (n, m) each."""
        theta, log_weight = self.nodes(x, width)
        squares = (x[:, None] - self.law.curve(theta)).square().sum(-1)
        return theta, log_weight - squares / (2 * width**2) - math.log(2 * math.pi * width**2)

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) of the data law itself, nats per point: (n, 2) to (n,)."""
        return torch.cat(
            [
                torch.logsumexp(self.log_joint(block, self.law.noise)[1], 1)
                for block in x.split(2048)
            ]
        )

    def moments(self, xt: Tensor, t: int) -> Normal:
        """Mean and variance of each coordinate of x^{t−1} given x^t: (n, 2) float64 each, t ≥ 2."""
        kernel, law = self.kernel, self.law
        root = float(kernel.alpha_bar[t].sqrt())
        scaled = xt.double() / root
        var = (
            float(kernel.one_minus_alpha_bar[t]) / root**2 + law.noise**2
        )  # of x^t/√ᾱ around the curve
        shrink = law.noise**2 / var  # of x^0 towards x^t/√ᾱ, given θ
        coefficients = (kernel.posterior_on_x0, kernel.posterior_on_xt, kernel.posterior_var)
        on_x0, on_xt, step_var = (float(c[t]) for c in coefficients)
        means, variances = [], []
        for block in scaled.split(2048):
            theta, log_joint = self.log_joint(block, math.sqrt(var))
            w = torch.softmax(log_joint, 1)
            curve = law.curve(theta).expand(len(block), -1, -1)
            mean = (w[:, None] @ curve).squeeze(1)
            spread = (w[:, None] @ (curve - mean[:, None]).square()).squeeze(1)
            means.append((1 - shrink) * mean + shrink * block)
            variances.append((1 - shrink) ** 2 * spread + law.noise**2 * (1 - shrink))
        mean, variance = torch.cat(means), torch.cat(variances)
        return Normal(on_x0 * mean + on_xt * xt.double(), step_var + on_x0**2 * variance)

    def __call__(self, xt: Tensor, t: Tensor | int) -> Normal:
        """xt (..., 2) with one step t ≥ 2, or (b, n, 2) with b steps."""
        if isinstance(t, Tensor) and t.dim() > 0:
            each = [self(x, int(step)) for x, step in zip(xt, t, strict=True)]
            return Normal(torch.stack([p.mean for p in each]), torch.stack([p.var for p in each]))
        p = self.moments(xt.reshape(-1, 2), int(t))
        return Normal(p.mean.reshape(xt.shape), p.var.reshape(xt.shape))


@torch.no_grad()
def optimality_gap(
    kernel: Kernel[P],
    optimum: Reverse[P],
    reverse: Reverse[P],
    x0: Tensor,
    generator: torch.Generator,
    block: int = 32768,
    noisier_share: float = 0.0,
) -> Tensor:
    """KL( optimal p* ‖ p of ``reverse`` ) at one draw of x^t for each example and step; its sum
    over t averages to K* − K.

    x0: (n, event). noisier_share: part of the draws of x^t that comes from more noise, weighted
    (see ``tails``), without which states that are rare and costly are missed. Returns (n, T + 1)
    nats, zero at t < 2. Raises BoundError as ``full_bound`` does.
    """
    x0, block = check_examples(kernel, x0), check_count("block", block)
    check_optimum(kernel, optimum)
    share, reverse, noise = (
        check_share(noisier_share),
        checked(kernel, reverse),
        noise_generator(generator, x0.device),
    )
    n = len(x0)
    gap = torch.zeros(n, kernel.T + 1, dtype=torch.float64)
    for t in torch.arange(2, kernel.T + 1).split(max(1, block // n)):
        xt, weight = draw(kernel, x0.expand(len(t), *x0.shape), t, noise, share)
        gap[:, t] = (weight * kernel.kl(optimum(xt, t), reverse(xt, t)).double()).T.cpu()
    return gap
