"""The networks of the two toy experiments (Appendix D.1): f_μ, f_Σ and f_b as functions of x^t and
t.

A network is called as ``network(kernel, xt, t)`` and returns the parameters of p(x^{t−1}|x^t): the
kernel supplies the coefficients that the parameterisation needs and, when β is learned, passes
gradients on to it. It knows nothing of bounds. Points come as (n, d) with one step t or as (b, n,
d) with b steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.kernels import Bernoulli, BinomialKernel, GaussianKernel, Normal

if TYPE_CHECKING:  # the law comes as an argument
    from nonequilibrium.data.toys import PointLaw


class StepReadout(nn.Module):
    """A linear readout of its own for every t (Appendix D.1): features (b, n, f) and t (b,) to (b,
    n, out).

    knots: if given, training sees each readout as the sum of its own part and a part interpolated
        linearly in t between this many knots, dense towards both ends. Neighbouring steps then
        share what they learn, which is much faster; the family of functions is the same, and
        ``fold`` writes the sum back into the own parts.
    """

    interpolation: Tensor
    shared: nn.Parameter | None

    def __init__(self, n_steps: int, features: int, out: int, knots: int | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_steps + 1, features, out))
        self.bias = nn.Parameter(torch.zeros(n_steps + 1, 1, out))
        self.shared = None
        if knots is not None:
            self.register_buffer("interpolation", _hat_functions(n_steps, knots), persistent=False)
            self.shared = nn.Parameter(torch.zeros(knots, features + 1, out))
            self.weight.requires_grad_(False)  # training moves the shared part alone
            self.bias.requires_grad_(False)

    def forward(self, features: Tensor, t: Tensor | int) -> Tensor:
        bias = self.bias[t]
        out = features @ self.weight[t] + (bias if bias.dim() == 3 else bias.squeeze(0))
        if self.shared is not None:
            out = out + F.pad(features, (0, 1), value=1.0) @ self._interpolated(self.shared, t)
        return out

    def _interpolated(self, shared: Tensor, t: Tensor | int) -> Tensor:
        """The shared part at t, its last row the bias: (*t.shape, f + 1, out)."""
        return torch.tensordot(self.interpolation[t], shared, dims=1)

    @torch.no_grad()
    def fold(self) -> None:
        """Make the shared part zero and the readouts the same as before."""
        if self.shared is not None:
            both = self._interpolated(self.shared, torch.arange(len(self.weight)))
            self.weight.add_(both[:, :-1])
            self.bias.add_(both[:, -1:])
            self.shared = None


def _hat_functions(n_steps: int, knots: int) -> Tensor:
    """Linear interpolation in log((t+1)/(T−t+1)) from values at the knots to t = 0..T: (T + 1,
    knots), rows sum to one.
    """
    t = torch.arange(n_steps + 1, dtype=torch.float64)
    place = torch.log((t + 1) / (n_steps - t + 1))
    position = (place - place[0]) / (place[-1] - place[0]) * (knots - 1)
    return torch.relu(1 - (position[:, None] - torch.arange(knots)).abs()).float()


class NormalisedRBF(nn.Module):
    """Normalised radial basis functions: φ_k ∝ exp(a_k − |x−c_k|²/2w_k²), Σ_k φ_k = 1; (..., 2) to
    (..., units).

    centres: (units, 2) initial centres. width: initial w, in the units of x.
    """

    def __init__(self, centres: Tensor, width: float):
        super().__init__()
        units = len(centres)
        self.centre = nn.Parameter(centres.clone().float())
        self.log_width = nn.Parameter(torch.full((units,), math.log(width)))
        self.log_amplitude = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        # Expanded square: a matrix product instead of a (..., units, 2) intermediate.
        precision = torch.exp(-2 * self.log_width)
        offset = self.log_amplitude - 0.5 * precision * self.centre.square().sum(-1)
        square = x.square().sum(-1, keepdim=True)
        return torch.softmax(
            offset + x @ (self.centre * precision[:, None]).T - 0.5 * square * precision, -1
        )


def k_means(points: Tensor, k: int, generator: torch.Generator, rounds: int = 30) -> Tensor:
    """Centres of k clusters of points (n, d): (k, d). Started far apart (k-means++; Arthur &
    Vassilvitskii 2007), then Lloyd's rounds.

    The classical start of radial basis functions (Moody & Darken 1989): the centres lie evenly
    along the data. Written here because training needs no library but torch.
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
    """f_μ and f_Σ of the swiss roll (D.1.1): one layer of normalised RBFs shared over t and between
    both functions.

    The readouts give an estimate of the data, x̂^0 = A_t φ + g_t x^t/√ᾱ_t, and z^Σ = B_t φ + b_t.
    Then

        f_μ = mean of q(x^{t−1}|x^t, x^0 = x̂^0),   f_Σ = sigmoid(z^Σ + logit β_t)   (the sigmoid of
        (64)).

    The units look at x^t/√ᾱ_t, in which the data does not shrink with t. A bare linear readout of
    16 bounded functions for f_μ could not follow x^t to the precision √β_1 that the first steps
    need; the posterior's mean can. At the start A, B and b are zero and g_t = ᾱ_t, the best reverse
    kernel for Gaussian data: K starts at L_null.
    """

    def __init__(
        self,
        kernel: GaussianKernel,
        units: int,
        law: PointLaw,
        width: float,
        generator: torch.Generator,
        centres: str = "points",
    ):
        super().__init__()
        if centres == "k_means":
            start = k_means(law.sample(200 * units, generator), units, generator)
        else:  # on the data, blurred to the distance between turns
            blur = 0.3 * torch.randn(units, law.dim, generator=generator, dtype=torch.float64)
            start = law.sample(units, generator) + blur
        self.rbf = NormalisedRBF(start, width)
        self.mean = StepReadout(kernel.T, units, law.dim)
        self.log_var = StepReadout(kernel.T, units, law.dim)
        self.skip = nn.Parameter(kernel.alpha_bar.detach().float())

    def forward(self, kernel: GaussianKernel, xt: Tensor, t: Tensor | int) -> Normal:
        scaled = xt / kernel.at(kernel.alpha_bar.sqrt(), t, xt)
        phi = self.rbf(scaled.to(self.skip.dtype))
        x0_hat = self.mean(phi, t).to(xt.dtype) + kernel.at(self.skip, t, xt) * scaled
        z_sigma = self.log_var(phi, t).to(xt.dtype)
        f_sigma = torch.sigmoid(z_sigma + torch.logit(kernel.at(kernel.beta, t, xt)))
        return Normal(kernel.q_posterior(x0_hat, xt, t).mean, f_sigma)


class MLPNetwork(nn.Module):
    """f_b of the heartbeat (D.1.2): three sigmoid layers of 50 shared over t, a readout of its own
    for every t, a sigmoid.

    The readouts give an estimate of the data, bit by bit, and f_b is the forward posterior's rate
    averaged over it:

        logit x̂^0 = W_t h(x^t) + b_t + λ_t(x^t),   f_b = x̂^0 q(x^{t−1}=1|x^t, x^0=1) + (1 − x̂^0)
        q(x^{t−1}=1|x^t, x^0=0).

    λ_t is what a bit says by itself of where it came from: for x^0 ~ π the chain is reversible, so
    q(x_i^0|x_i^t) is q(x_i^t|x_i^0) with its arguments exchanged. What the other bits say is left
    to learn. A readout that gave f_b directly would spend features on x^t itself and need logits of
    the size of log β_t. At the start W and b are zero, f_b = T_π(x^{t−1}|x^t; β_t), the reverse of
    the chain in equilibrium, and K starts at L_null.
    """

    def __init__(
        self,
        kernel: BinomialKernel,
        dim: int,
        hidden: int,
        layers: int,
        knots: int,
        generator: torch.Generator,
    ):
        super().__init__()
        sizes = [dim] + [hidden] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.readout = StepReadout(kernel.T, hidden, dim, knots)
        with torch.no_grad():
            for layer in cast(Iterable[nn.Linear], self.layers):
                layer.weight.copy_(
                    torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5
                )
                layer.bias.copy_(
                    -(kernel.pi if layer is self.layers[0] else 0.5) * layer.weight.sum(1)
                )  # half are on

    def hidden(self, xt: Tensor) -> Tensor:
        """The shared features h(x^t): (..., dim) to (..., hidden)."""
        h = xt.to(self.readout.weight.dtype)
        for layer in self.layers:
            h = torch.sigmoid(layer(h))
        return h

    def forward(self, kernel: BinomialKernel, xt: Tensor, t: Tensor | int) -> Bernoulli:
        z = self.readout(self.hidden(xt), t).to(xt.dtype) + kernel.q_marginal(xt, t).logit
        from_zero, from_one = (
            kernel.q_posterior(torch.full_like(xt, x0), xt, t).logit for x0 in (0.0, 1.0)
        )
        # Rates of one and of zero, each a sum of positive terms, so that neither loses its
        # precision near zero.
        rate, rest = (
            torch.sigmoid(z) * torch.sigmoid(sign * from_one)
            + torch.sigmoid(-z) * torch.sigmoid(sign * from_zero)
            for sign in (1, -1)
        )
        return Bernoulli(torch.log(rate) - torch.log(rest))
