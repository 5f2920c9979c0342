"""The networks of the toy experiments (Appendix D.1), f_μ, f_Σ and f_b: called as ``network(kernel,
xt, t)`` with points (n, d) and one step t, or (b, n, d) and b steps. A learned β gets gradients.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Bernoulli, Normal
from nonequilibrium.diffusion.kernels import BinomialKernel, GaussianKernel
from nonequilibrium.network.outputs import Step
from nonequilibrium.network.start import random_weights
from nonequilibrium.settings import chosen, completed


class StepReadout(nn.Module):
    """A linear readout for every t (Appendix D.1): features (b, n, f) and t (b,) to (b, n, out).
    With ``knots`` training moves a part that is interpolated in t between so many, until ``fold``:
    neighbouring steps share what they learn, which is much faster.
    """

    interpolation: Tensor
    shared: nn.Parameter | None

    def __init__(self, n_steps: int, features: int, out: int, knots: int | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_steps + 1, features, out))
        self.bias = nn.Parameter(torch.zeros(n_steps + 1, 1, out))
        self.shared = None
        if knots is not None:
            self.shared = nn.Parameter(torch.zeros(knots, features + 1, out))
            self.register_buffer("interpolation", hat_functions(n_steps, knots), persistent=False)
            self.weight.requires_grad_(False)
            self.bias.requires_grad_(False)

    def forward(self, features: Tensor, t: Step) -> Tensor:
        out = features @ self.weight[t] + self.bias[t]
        if self.shared is not None:  # the last row is the bias
            shared = torch.tensordot(self.interpolation[t], self.shared, dims=1)
            out = out + F.pad(features, (0, 1), value=1.0) @ shared
        return out

    @torch.no_grad()
    def fold(self) -> None:
        """Drop the shared part and keep every readout as it is."""
        if self.shared is not None:
            shared = torch.tensordot(self.interpolation, self.shared, dims=1)
            self.weight.add_(shared[:, :-1])
            self.bias.add_(shared[:, -1:])
            self.shared = None


def hat_functions(n_steps: int, knots: int) -> Tensor:
    """Linear interpolation in log((t+1)/(T−t+1)) from knots to t = 0..T: (T + 1, knots)."""
    t = torch.arange(n_steps + 1, dtype=torch.float64)
    place = torch.log((t + 1) / (n_steps - t + 1))
    position = (place - place[0]) / (place[-1] - place[0]) * (knots - 1)
    return torch.relu(1 - (position[:, None] - torch.arange(knots)).abs()).float()


class NormalisedRBF(nn.Module):
    """φ_k ∝ exp(a_k − |x−c_k|²/2w_k²), Σ_k φ_k = 1: (..., d) to (..., units)."""

    def __init__(self, centres: Tensor, width: float):
        super().__init__()
        self.centre = nn.Parameter(centres.clone().float())
        self.log_width = nn.Parameter(torch.full((len(centres),), math.log(width)))
        self.log_amplitude = nn.Parameter(torch.zeros(len(centres)))

    def forward(self, x: Tensor) -> Tensor:
        # The square is expanded: a matrix product in place of a (..., units, d) intermediate.
        precision = torch.exp(-2 * self.log_width)
        offset = self.log_amplitude - 0.5 * precision * self.centre.square().sum(-1)
        square = x.square().sum(-1, keepdim=True)
        inner = x @ (self.centre * precision[:, None]).T
        return torch.softmax(offset + inner - 0.5 * square * precision, -1)


def k_means(points: Tensor, k: int, generator: Generator, rounds: int = 30) -> Tensor:
    """Centres (k, d) of points (n, d) by k-means++ (Arthur & Vassilvitskii 2007): the classical
    start of radial basis functions (Moody & Darken 1989).
    """
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < k:
        square = torch.cdist(points, centres).amin(1).square()
        centres = torch.cat([centres, points[torch.multinomial(square, 1, generator=generator)]])
    for _ in range(rounds):
        member = F.one_hot(torch.cdist(points, centres).argmin(1), k).to(points.dtype)
        count = member.sum(0)[:, None]
        centres = torch.where(count > 0, member.T @ points / count.clamp(min=1), centres)
    return centres


class RBFNetwork(nn.Module):
    """f_μ and f_Σ of a law of points (D.1.1) by normalised RBFs φ of x^t/√ᾱ_t, shared by all t:

        f_μ = mean of q(x^{t−1}|x^t, x̂^0) at x̂^0 = A_t φ + g_t x^t/√ᾱ_t,
        f_Σ = sigmoid(B_t φ + b_t + logit β_t), as in (64).

    where g_t follows x^t to the precision √β_1 of the first steps. A, B and b start at zero and g_t
    at ᾱ_t: K at L_null. mean = "paper": the appendix as it stands, f_μ = A_t φ + a_t and f_Σ =
    sigmoid(B_t φ + b_t) with φ of x^t itself; b_t starts at logit β_t.
    """

    defaults = {"units": 16, "width": 1.5, "centres": "points", "mean": "posterior"}

    def __init__(self, kernel: GaussianKernel, law: Any, generator: Generator, **sizes):
        super().__init__()
        p = completed(self.defaults, sizes)
        mean, log_var = (StepReadout(kernel.T, p.units, law.dim) for _ in range(2))
        if p.centres == "k_means":
            start = k_means(law.sample(200 * p.units, generator), p.units, generator)
        else:  # on the data, blurred to the distance between turns
            blur = 0.3 * torch.randn(p.units, law.dim, generator=generator, dtype=torch.float64)
            start = law.sample(p.units, generator) + blur
        self.rbf, self.mean, self.log_var = NormalisedRBF(start, p.width), mean, log_var
        self.is_paper = chosen("mean", p.mean, {"posterior": False, "paper": True})
        if self.is_paper:
            beta = kernel.beta.detach()[1:, None, None].expand(-1, 1, law.dim)
            log_var.bias.data[1:] = torch.logit(beta)
        else:
            self.skip = nn.Parameter(kernel.alpha_bar.detach().float())

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Step) -> Normal:
        if self.is_paper:
            phi = self.rbf(xt.to(self.mean.weight.dtype))
            f_mu, z_sigma = (readout(phi, t).to(xt.dtype) for readout in (self.mean, self.log_var))
            return Normal(f_mu, torch.sigmoid(z_sigma))
        scaled = xt / kernel.at(kernel.alpha_bar.sqrt(), t, xt)
        phi = self.rbf(scaled.to(self.skip.dtype))
        x0_hat = self.mean(phi, t).to(xt.dtype) + kernel.at(self.skip, t, xt) * scaled
        z_sigma = self.log_var(phi, t).to(xt.dtype)
        f_sigma = torch.sigmoid(z_sigma + torch.logit(kernel.at(kernel.beta, t, xt)))
        return Normal(kernel.q_posterior(x0_hat, xt, t).mean, f_sigma)


class MLPNetwork(nn.Module):
    """f_b of the heartbeat (D.1.2) by sigmoid layers h shared by all t and a readout for every t:

        f_b = x̂^0 q(x^{t−1}=1|x^t, x^0=1) + (1 − x̂^0) q(x^{t−1}=1|x^t, x^0=0),
        logit x̂^0 = W_t h(x^t) + b_t + λ_t(x^t), bit by bit.

    λ_t is what a bit alone says of its origin: q(x^t|x^0) with its arguments exchanged, as a chain
    from x^0 ~ π is reversible. W and b start at zero: K at L_null. mean = "paper": the appendix as
    it stands, logit f_b = W_t h(x^t) + b_t. knots = 0: every readout is trained by itself.
    """

    defaults = {"hidden": 50, "layers": 3, "knots": 32, "mean": "posterior"}

    def __init__(self, kernel: BinomialKernel, dim: int, generator: Generator, **sizes):
        super().__init__()
        p = completed(self.defaults, sizes)
        linear = [nn.Linear(a, b) for a, b in pairwise([dim] + [p.hidden] * p.layers)]
        self.layers = nn.ModuleList(linear)
        self.readout = StepReadout(kernel.T, p.hidden, dim, p.knots or None)
        self.is_paper = chosen("mean", p.mean, {"posterior": False, "paper": True})
        with torch.no_grad():
            random_weights(self, generator)
            for layer in linear:  # half of the units are on
                on = kernel.pi if layer is linear[0] else 0.5
                layer.bias.copy_(-on * layer.weight.sum(1))

    def hidden(self, xt: Tensor) -> Tensor:
        """The shared features h(x^t): (..., dim) to (..., hidden)."""
        h = xt.to(self.readout.weight.dtype)
        for layer in self.layers:
            h = torch.sigmoid(layer(h))
        return h

    def forward(self, kernel: BinomialKernel, xt: Tensor, t: Step) -> Bernoulli:
        z = self.readout(self.hidden(xt), t).to(xt.dtype)
        if self.is_paper:
            return Bernoulli(z)
        z = z + kernel.q_marginal(xt, t).logit
        zero, one = torch.zeros_like(xt), torch.ones_like(xt)
        from_zero, from_one = (kernel.q_posterior(x0, xt, t).logit for x0 in (zero, one))
        # Rates of one and of zero as sums of positive terms: neither loses precision near zero.
        rate, rest = (
            torch.sigmoid(z) * torch.sigmoid(sign * from_one)
            + torch.sigmoid(-z) * torch.sigmoid(sign * from_zero)
            for sign in (1, -1)
        )
        return Bernoulli(torch.log(rate) - torch.log(rest))
