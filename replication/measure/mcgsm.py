"""Mixtures of conditional Gaussian scale mixtures (Theis, Hosseini & Bethge 2012): the baseline of
the paper's Table 2 on dead leaves.

An image's density is the product over its pixels of p(y|x): y the pixel, x the pixels above it and
to its left that are near. With c = 1..C components and s = 1..S scales

    p(y|x) = Σ_cs p(c, s|x) N(y; a_c·x, exp(−α_cs)),    log p(c, s|x) = η_cs − exp(α_cs)/2 Σ_n β_cn²
    (b_n·x)² + a constant in c, s,

where the features b_n are shared among the components. Before this x is whitened and y is replaced
by what a linear prediction leaves of it, in units of its standard deviation; so one component with
one scale is the Gaussian of the chain rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def causal(side: int) -> Tensor:
    """Which pixels of a ``side`` × ``side`` window come before its centre, row by row: (side, side)
    bool.
    """
    return (torch.arange(side * side) < side * side // 2).reshape(side, side)


def neighbourhoods(images: Tensor, side: int = 9) -> tuple[Tensor, Tensor]:
    """Every pixel with a whole neighbourhood, and that neighbourhood: y (n, m) and x (n, m, d),
    from images (n, 1, h, w).

    Pixels within side // 2 of the upper border or of a side border have none.
    """
    reach = side // 2
    columns = F.unfold(
        F.pad(images, (0, 0, 0, reach)), side
    )  # (n, side², m); rows below the centre are not looked at
    before = causal(side).flatten()
    return columns[:, side * side // 2], columns[:, before].mT


class MCGSM(nn.Module):
    """p(y|x) for x of ``dim`` values: log densities in nats, differentiable in all parameters.

    components, scales, features: C, S and the number of b_n. Statistics of the data are set by
    ``whiten``.
    """

    mean_x: Tensor
    whitening: Tensor
    linear: Tensor
    mean_y: Tensor
    scale_y: Tensor

    def __init__(
        self, dim: int, components: int, scales: int, features: int, generator: torch.Generator
    ):
        super().__init__()
        self.register_buffer("mean_x", torch.zeros(dim))
        self.register_buffer("whitening", torch.eye(dim))
        self.register_buffer("linear", torch.zeros(dim))
        self.register_buffer("mean_y", torch.zeros(()))
        self.register_buffer("scale_y", torch.ones(()))

        def small(*shape: int) -> Tensor:
            return 0.1 * torch.randn(shape, generator=generator)

        self.a = nn.Parameter(
            small(components, dim) if components > 1 else torch.zeros(components, dim)
        )
        # Scales from a tenth of the spread to ten times it.
        self.alpha = nn.Parameter(
            torch.linspace(-2, 3, scales).expand(components, scales).clone() * (scales > 1)
        )
        self.eta = nn.Parameter(torch.zeros(components, scales))
        self.beta = nn.Parameter(0.3 + small(components, features))
        self.b = nn.Parameter(torch.randn(features, dim, generator=generator) / dim**0.5)

    @torch.no_grad()
    def whiten(self, y: Tensor, x: Tensor) -> None:
        """Take from data y (n,), x (n, d) what makes x white and what a linear prediction of y
        leaves white.
        """
        y, x = y.double(), x.double()
        mean_x, mean_y = x.mean(0), y.mean()
        covariance = (x - mean_x).mT @ (x - mean_x) / len(x)
        values, vectors = torch.linalg.eigh(covariance)
        whitening = vectors / values.clamp_min(1e-12 * float(values.max())).sqrt()
        white = (x - mean_x) @ whitening
        linear = white.mT @ (y - mean_y) / len(y)
        rest = (y - mean_y - white @ linear).square().mean().sqrt()
        for buffer, value in zip(
            self.buffers(), (mean_x, whitening, linear, mean_y, rest), strict=True
        ):
            buffer.copy_(value)

    def prepared(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of y, and white x."""
        white = (x - self.mean_x) @ self.whitening
        return (y - self.mean_y - white @ self.linear) / self.scale_y, white

    def log_prior(self, white: Tensor) -> Tensor:
        """log p(c, s|x), (n, C, S)."""
        energy = (white @ self.b.mT).square() @ self.beta.square().mT  # (n, C)
        logits = self.eta - self.alpha.exp() / 2 * energy[..., None]
        return logits - logits.flatten(1).logsumexp(1)[:, None, None]

    def log_density(self, rest: Tensor, white: Tensor) -> Tensor:
        """log p of prepared values, in their units: (n,)."""
        error = rest[:, None] - white @ self.a.mT  # (n, C)
        log_normal = self.alpha / 2 - self.alpha.exp() / 2 * error.square()[..., None] - LOG_2PI / 2
        return (self.log_prior(white) + log_normal).flatten(1).logsumexp(1)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y|x) of y (n,) and x (n, d): (n,) nats."""
        return self.log_density(*self.prepared(y, x)) - self.scale_y.log()

    @torch.no_grad()
    def sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y given x (n, d): (n,)."""
        _, white = self.prepared(x.new_zeros(len(x)), x)
        which = torch.multinomial(self.log_prior(white).flatten(1).exp(), 1, generator=generator)[
            :, 0
        ]
        c = which // self.alpha.shape[1]
        noise = torch.randn(len(x), generator=generator) * (-self.alpha.flatten()[which] / 2).exp()
        rest = (white * self.a[c]).sum(1) + noise
        return self.mean_y + white @ self.linear + self.scale_y * rest


def fit(
    model: MCGSM,
    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]],
    generator: torch.Generator,
    steps: int = 3000,
    batch: int = 4000,
    learning_rate: float = 0.02,
) -> MCGSM:
    """Maximise the exact log likelihood by Adam with a rate that falls to zero. draw(n, generator)
    gives y (n,) and x (n, d).
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rest, white = model.prepared(*draw(batch, generator))
        optimiser.zero_grad(set_to_none=True)
        (-model.log_density(rest, white).mean()).backward()
        optimiser.step()
        falling.step()
    return model


def drawn_from(
    images: Tensor, side: int = 9
) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    """``draw`` of ``fit``: pixels at uniform places of images (n, 1, h, w) that have a whole
    neighbourhood.
    """
    n, _, height, width = images.shape
    reach, before = side // 2, torch.nonzero(causal(side)) - side // 2
    flat = images.flatten()
    steps = before[:, 0] * width + before[:, 1]

    def draw(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        image = torch.randint(n, (size,), generator=generator)
        row = torch.randint(reach, height, (size,), generator=generator)
        column = torch.randint(reach, width - reach, (size,), generator=generator)
        at = (image * height + row) * width + column
        return flat[at], flat[at[:, None] + steps]

    return draw


@torch.no_grad()
def per_image(model: MCGSM, images: Tensor, side: int = 9) -> Tensor:
    """Mean of log p(y|x) over the pixels of each image that have a whole neighbourhood: (n,) nats
    per pixel.
    """
    means = []
    for image in images[:, None]:
        y, x = neighbourhoods(image, side)
        means.append(model(y[0], x[0]).double().mean())
    return torch.stack(means)


@torch.no_grad()
def sample_image(model: MCGSM, size: int, generator: torch.Generator, side: int = 9) -> Tensor:
    """An image drawn pixel by pixel, row by row: (size, size). It begins with white noise far
    above, which is cut off.
    """
    reach, above = side // 2, size // 4
    image = model.mean_y + torch.randn(
        size + above, size + 2 * above, generator=generator
    ) * model.mean_x.new_ones(())
    before = causal(side)
    for row in range(reach, size + above):
        for column in range(reach, size + 2 * above - reach):
            window = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
            if window.shape[0] < side:
                window = F.pad(window, (0, 0, 0, side - window.shape[0]))
            image[row, column] = model.sample(window[before][None], generator)[0]
    return image[above:, above : above + size]
