"""What is possible at best (15): K* of the two toys, by the reverses p* with the moments of
q(x^{t−1}|x^t). As log p is linear in these, K* − K = Σ_{t=2..T} E_q(x^t) KL(p* ‖ p) for any p.
The chains of the heartbeat treat alike all bits of a residue class, and all classes: x^t matters
only by the number of ones in each class, 5^5 states, 126 up to order.
"""

import itertools
import math
from functools import lru_cache

import torch
from scipy.special import roots_legendre
from torch import Tensor
from torch.nn import functional as F

from nonequilibrium.bound.checks import check_chain, check_control
from nonequilibrium.bound.proposals import draw
from nonequilibrium.data.toys import Heartbeat, SwissRoll
from nonequilibrium.diffusion.chain import Bernoulli, Kernel, Normal, P, Reverse
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel


class HeartbeatOptimum:
    """f_b*(x^t, t), the exact posterior mean of x^{t−1} over the five templates (3.1.2)."""

    def __init__(self, kernel: BinomialKernel, law: Heartbeat):
        self.kernel = kernel
        self.templates = law.templates()

    def __call__(self, xt: Tensor, t: Tensor | int) -> Bernoulli:
        """xt (..., 20) bits and steps t ≥ 2 on its leading axes; returns logits of that shape."""
        xt = xt[..., None, :]  # the templates get an axis of their own: (..., 5, 20)
        x0 = self.templates.to(xt.dtype).expand(*xt.shape[:-2], *self.templates.shape)
        log_weight = self.kernel.log_prob(xt, self.kernel.q_marginal(x0, t))
        weight = torch.softmax(log_weight, -1)[..., None]
        posterior = self.kernel.q_posterior(x0, xt.expand_as(x0), t)
        one, zero = torch.sigmoid(posterior.logit), torch.sigmoid(-posterior.logit)
        return Bernoulli(torch.log((weight * one).sum(-2)) - torch.log((weight * zero).sum(-2)))


def with_counts(law: Heartbeat, counts: Tensor) -> Tensor:
    """States whose residue classes begin with so many ones: counts (n, 5) to bits (n, 20)."""
    bins = torch.arange(law.dim)
    return (bins // law.period < counts[:, bins % law.period]).double()


def heartbeat_optimal_kl(kernel: BinomialKernel, law: Heartbeat, block: int = 50) -> Tensor:
    """E_q KL( q(x^{t−1}|x^t,x^0) ‖ p* ), (T + 1,) nats per sequence, zero at t < 2; exact: by
    symmetry x^0 may be the template of class 0, and then the other classes may be sorted.
    """
    size, period = law.dim // law.period, law.period
    others = list(itertools.combinations_with_replacement(range(size + 1), period - 1))
    counts = torch.tensor([(first, *rest) for first in range(size + 1) for rest in others])
    repeats = [math.prod(math.factorial(r.count(c)) for c in set(r)) for r in others]
    orders = torch.tensor([math.factorial(period - 1) // n for n in repeats] * (size + 1))
    ways = torch.tensor([math.comb(size, c) for c in range(size + 1)])[counts].prod(1) * orders
    xt, optimum = with_counts(law, counts), HeartbeatOptimum(kernel, law)
    x0 = law.templates()[0].expand_as(xt)
    kl = torch.zeros(kernel.T + 1, dtype=torch.float64)
    for t in torch.arange(2, kernel.T + 1).split(block):
        x, x_0 = xt.expand(len(t), *xt.shape), x0.expand(len(t), *x0.shape)
        weight = ways * torch.exp(kernel.log_prob(x, kernel.q_marginal(x_0, t)))
        kl[t] = (weight * kernel.kl(kernel.q_posterior(x_0, x, t), optimum(x, t))).sum(1)
    return kl


def heartbeat_entropy(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """H_q(X^t) of heartbeats for t = 0..T, (T + 1,) nats; a finite sum over 5^5 states."""
    size, period = law.dim // law.period, law.period
    ones = torch.cartesian_prod(*[torch.arange(size + 1)] * period)  # in each class
    ways = torch.tensor([float(math.comb(size, k)) for k in range(size + 1)])[ones].double().prod(1)
    ones = ones.double()
    entropy = torch.full((kernel.T + 1,), math.log(period), dtype=torch.float64)
    for t in range(1, kernel.T + 1):
        kept, lost = float(kernel.alpha_bar[t]), float(kernel.one_minus_alpha_bar[t])
        low, high = kernel.pi * lost, kept + kernel.pi * lost  # rates of ones where x^0 is 0 and 1
        outside = ones * math.log(low) + (size - ones) * math.log1p(-low)
        inside = ones * math.log(high) + (size - ones) * math.log((1 - kernel.pi) * lost)
        by_class = outside.sum(1, keepdim=True) + inside - outside
        log_q = torch.logsumexp(by_class, 1) - math.log(period)
        entropy[t] = -(ways * torch.exp(log_q) * log_q).sum()
    return entropy


def heartbeat_reverse_entropy(kernel: BinomialKernel, law: Heartbeat) -> Tensor:
    """H_q(X^{t−1}|X^t), which (24) brackets, by the chain rule: (T + 1,) nats, NaN at t < 2."""
    entropy, x0 = heartbeat_entropy(kernel, law), law.templates()[:1]
    result = torch.full((kernel.T + 1,), math.nan, dtype=torch.float64)
    for t in range(2, kernel.T + 1):
        result[t] = kernel.step_entropy(x0, t) + entropy[t - 1] - entropy[t]
    return result


def counts_pmf(rate: Tensor) -> Tensor:
    """Law of the number of ones among independent bits: rates (..., n) to (..., n + 1)."""
    pmf = torch.ones_like(rate[..., :1])
    for r in rate[..., None].unbind(-2):  # none more, or one more
        pmf = F.pad(pmf * (1 - r), (0, 1)) + F.pad(pmf * r, (1, 0))
    return pmf


@torch.no_grad()
def heartbeat_log_p(kernel: BinomialKernel, law: Heartbeat, block: int = 50) -> float:
    """log p(x^0) (6) of a heartbeat under the best reverse chain, nats; exact, equal for all five:
    from π each step leads from the 126 ordered states to 5^5, which by symmetry are the 126 again.
    """
    size, period = law.dim // law.period, law.period
    kinds = list(itertools.combinations_with_replacement(range(size + 1), period))
    place = {kind: i for i, kind in enumerate(kinds)}
    every = itertools.product(range(size + 1), repeat=period)
    to_kind = torch.tensor([place[tuple(sorted(state))] for state in every])
    xs, optimum = with_counts(law, torch.tensor(kinds)), HeartbeatOptimum(kernel, law)

    def stepped(mass: Tensor, rate: Tensor) -> Tensor:
        """From the probabilities of the 126 states and the rates of the next bits on each."""
        joint = mass[:, None]
        for pmf in counts_pmf(rate.reshape(-1, size, period).transpose(1, 2)).unbind(1):
            joint = (joint[:, :, None] * pmf[:, None]).flatten(1)
        return torch.zeros(len(kinds), dtype=torch.float64).index_add(0, to_kind, joint.sum(0))

    at_pi = torch.full((1, law.dim), kernel.pi, dtype=torch.float64)
    mass = stepped(torch.ones(1, dtype=torch.float64), at_pi)
    for steps in torch.arange(kernel.T, 1, -1).split(block):
        for rate in optimum(xs.expand(len(steps), *xs.shape), steps).rate:
            mass = stepped(mass, rate)
    mass = stepped(mass, kernel.p_edge(xs).rate)
    return math.log(float(mass[place[(0,) * (period - 1) + (size,)]]) / period)


gauss_legendre = lru_cache(roots_legendre)  # n nodes on [−1, 1] and their weights


class SwissRollOptimum:
    """Posterior mean and variance of x^{t−1} given x^t for a swiss roll by quadrature over θ, given
    which all is Gaussian; where noise is small, only over the part of the curve near x^t.
    """

    reach = 9.0  # widths of the integrand on each side of the nearest point of the curve
    per_width = 4.0  # nodes per width
    local_below = 0.06  # widths smaller than this see one turn only: the turns are 0.9 apart

    def __init__(self, kernel: GaussianKernel, law: SwissRoll):
        self.kernel, self.law = kernel, law
        self._coarse = law.theta_grid(4096)
        self._coarse_curve = law.curve(self._coarse)
        self._fastest = float(law.speed(self._coarse).max())

    def log_joint(self, x: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """Nodes θ (n or 1, m) and log p(x, θ) dθ there (n, m), for x = c(θ) + width · ε (n, 2)."""
        law = self.law
        low, high = torch.tensor([[law.theta_min], [law.theta_max]]).double()  # to float32's digits
        if width < self.local_below:
            nearest = self._coarse[torch.cdist(x, self._coarse_curve).argmin(1)]
            half = self.reach * width / law.speed(nearest) + self._coarse.diff()[0]
            low, high = torch.maximum(nearest - half, low), torch.minimum(nearest + half, high)
        nodes = self.per_width * float((high - low).max()) * self._fastest / width
        # A power of two of them, so that few rules serve all steps.
        rule = gauss_legendre(2 ** max(6, math.ceil(math.log2(nodes))))
        place, weight = map(torch.from_numpy, rule)
        theta = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * place
        density = (high - low) / (2 * (law.theta_max - law.theta_min))
        log_weight = torch.log(density)[:, None] + torch.log(weight)
        squares = (x[:, None] - law.curve(theta)).square().sum(-1)
        return theta, log_weight - squares / (2 * width**2) - math.log(2 * math.pi * width**2)

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) of the data law itself, nats per point: (n, 2) to (n,)."""
        parts = [self.log_joint(part, self.law.noise)[1] for part in x.split(2048)]
        return torch.cat([torch.logsumexp(part, 1) for part in parts])

    def moments(self, xt: Tensor, t: int) -> Normal:
        """Mean and variance of each coordinate of x^{t−1} given x^t: (n, 2) float64 each, t ≥ 2."""
        kernel, noise = self.kernel, self.law.noise
        root = float(kernel.alpha_bar[t].sqrt())
        scaled = xt.double() / root
        var = float(kernel.one_minus_alpha_bar[t]) / root**2 + noise**2  # x^t/√ᾱ around the curve
        shrink = noise**2 / var  # of x^0 towards x^t/√ᾱ, given θ
        means, variances = [], []
        for part in scaled.split(2048):
            theta, log_joint = self.log_joint(part, math.sqrt(var))
            w = torch.softmax(log_joint, 1)[:, None]
            curve = self.law.curve(theta).expand(len(part), -1, -1)
            mean = (w @ curve).squeeze(1)
            spread = (w @ (curve - mean[:, None]).square()).squeeze(1)
            means.append((1 - shrink) * mean + shrink * part)
            variances.append((1 - shrink) ** 2 * spread + noise**2 * (1 - shrink))
        q = kernel.q_posterior(torch.cat(means), xt.double(), t)
        return Normal(q.mean, q.var + kernel.posterior_on_x0[t] ** 2 * torch.cat(variances))

    def __call__(self, xt: Tensor, t: Tensor | int) -> Normal:
        """xt (..., 2) with one step t ≥ 2, or (b, n, 2) with b steps."""
        if isinstance(t, Tensor) and t.dim() > 0:
            by_step = [self(x, int(step)) for x, step in zip(xt, t, strict=True)]
            return Normal(*(torch.stack(values) for values in zip(*by_step, strict=True)))
        return Normal(*(x.reshape(xt.shape) for x in self.moments(xt.reshape(-1, 2), int(t))))


@torch.no_grad()
def optimality_gap(
    kernel: Kernel[P],
    optimum: Reverse[P],
    reverse: Reverse[P],
    x0: Tensor,
    generator: torch.Generator,
    noisier_share: float = 0.0,
) -> Tensor:
    """KL( p* ‖ p ) at a draw of x^t per example and step, (n, T + 1) nats, zero at t < 2: the sums
    have the mean K* − K. Without a ``noisier_share`` (``draw``) rare, costly states are missed.
    """
    check_control(kernel, (optimum, torch.zeros(kernel.T + 1)))
    reverse, x0, noise = check_chain(kernel, reverse, x0, generator)
    gap = torch.zeros(len(x0), kernel.T + 1, dtype=torch.float64)
    for t in torch.arange(2, kernel.T + 1).split(max(1, 32768 // len(x0))):
        xt, weight = draw(kernel, x0.expand(len(t), *x0.shape), t, noise, noisier_share)
        gap[:, t] = (weight * kernel.kl(optimum(xt, t), reverse(xt, t)).double()).T.cpu()
    return gap
