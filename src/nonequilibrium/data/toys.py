"""The laws of the two toy data sets, with what is known of them exactly."""

import math

import torch
from torch import Tensor

from nonequilibrium.errors import ParameterError


class SwissRoll:
    """A swiss roll in two dimensions (section 3.1.1), of mean 0 and, on average, variance 1. It is
    c(θ) + σ ε, ε standard normal, θ uniform on [3π/2, 9π/2]; c(θ) is the spiral θ (cos θ, sin θ) in
    coordinates where it is 13 long and its turns are 0.9 apart. noise: σ.
    """

    dim = 2
    theta_min, theta_max = 1.5 * math.pi, 4.5 * math.pi

    def __init__(self, noise: float = 1e-3):
        if not 0 < noise < 1:
            raise ParameterError(f"noise is {noise}; σ must lie strictly between 0 and 1")
        self.noise = noise
        spiral = self._spiral(self.theta_grid(200_000))
        self._mean = spiral.mean(0)
        self._scale = math.sqrt((spiral - self._mean).square().mean() / (1 - noise**2))

    @staticmethod
    def _spiral(theta: Tensor) -> Tensor:
        return theta[..., None] * torch.stack([torch.cos(theta), torch.sin(theta)], -1)

    def theta_grid(self, n: int) -> Tensor:
        """n midpoints of equal parts of the range of θ, shape (n,)."""
        u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        return self.theta_min + (self.theta_max - self.theta_min) * u

    def curve(self, theta: Tensor) -> Tensor:
        """c(θ): (...) to (..., 2), float64."""
        return (self._spiral(theta) - self._mean) / self._scale

    def speed(self, theta: Tensor) -> Tensor:
        """|dc/dθ|, same shape as θ."""
        return torch.sqrt(1 + theta**2) / self._scale

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent points, (n, 2) float64."""
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        theta = self.theta_min + (self.theta_max - self.theta_min) * u
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return self.curve(theta) + self.noise * noise


class Heartbeat:
    """The binary heartbeat (section 3.1.2): 20 bits, a one in every fifth at a uniform offset."""

    dim, period = 20, 5
    log_likelihood = math.log(1 / 5)  # of every sequence, nats

    def templates(self) -> Tensor:
        """The five sequences, (5, 20) float64; row o has its ones at the bins ≡ o mod 5."""
        bins = torch.arange(self.dim)
        return (bins % self.period == torch.arange(self.period)[:, None]).double()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent sequences, (n, 20) float64 zeros and ones."""
        return self.templates()[torch.randint(self.period, (n,), generator=generator)]
