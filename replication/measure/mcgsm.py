"""The MCGSM of the paper's Table 2 on dead leaves (Theis, Hosseini & Bethge 2012).

The density of an image is the product over its pixels of p(y|x): y the pixel, x the near pixels
above it and to its left. With components c, scales s, and features b_n that all components share,

    p(y|x) = Σ_cs p(c, s|x) N(y; a_c·x, exp(−α_cs)),
    log p(c, s|x) = η_cs − exp(α_cs)/2 Σ_n β_cn² (b_n·x)² + a constant in c, s.

Here x is white, and y the residual of a linear prediction, scaled: one component with one scale is
the Gaussian of the chain rule.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)
Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]  # n to y (n,) and x (n, d)


class MCGSM(nn.Module):
    """p(y|x) for x of ``dim`` values; C components, S scales and the number of features b_n."""

    def __init__(self, dim: int, components: int, scales: int, features: int, generator):
        super().__init__()
        self.mean_x = nn.Buffer(torch.zeros(dim))
        self.whitening = nn.Buffer(torch.eye(dim))
        self.linear = nn.Buffer(torch.zeros(dim))
        self.mean_y = nn.Buffer(torch.zeros(()))
        self.scale_y = nn.Buffer(torch.ones(()))

        def small(*shape: int) -> Tensor:
            return 0.1 * torch.randn(shape, generator=generator)

        self.a = nn.Parameter(small(components, dim) if components > 1 else torch.zeros(1, dim))
        # Scales from a tenth of the spread to ten times it.
        alpha = torch.linspace(-2, 3, scales).expand(components, scales).clone()
        self.alpha = nn.Parameter(alpha * (scales > 1))
        self.eta = nn.Parameter(torch.zeros(components, scales))
        self.beta = nn.Parameter(0.3 + small(components, features))
        self.b = nn.Parameter(torch.randn(features, dim, generator=generator) / dim**0.5)

    @torch.no_grad()
    def whiten(self, y: Tensor, x: Tensor) -> None:
        """Set the statistics from data y (n,), x (n, d): x and the residual of y become white."""
        y, x = y.double(), x.double()
        mean_x, mean_y = x.mean(0), y.mean()
        covariance = (x - mean_x).mT @ (x - mean_x) / len(x)
        values, vectors = torch.linalg.eigh(covariance)
        whitening = vectors / values.clamp_min(1e-12 * float(values.max())).sqrt()
        white = (x - mean_x) @ whitening
        linear = white.mT @ (y - mean_y) / len(y)
        residual = (y - mean_y - white @ linear).square().mean().sqrt()
        statistics = mean_x, whitening, linear, mean_y, residual
        for buffer, value in zip(self.buffers(), statistics, strict=True):
            buffer.copy_(value)

    def white(self, x: Tensor) -> Tensor:
        """x in coordinates in which the data is white, (n, d)."""
        return (x - self.mean_x) @ self.whitening

    def log_prior(self, white: Tensor) -> Tensor:
        """log p(c, s|x), (n, C, S)."""
        energy = (white @ self.b.mT).square() @ self.beta.square().mT  # (n, C)
        logits = self.eta - self.alpha.exp() / 2 * energy[..., None]
        return logits - logits.flatten(1).logsumexp(1)[:, None, None]

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y|x) of y (n,) and x (n, d): (n,) nats."""
        white = self.white(x)
        residual = (y - self.mean_y - white @ self.linear) / self.scale_y
        error = residual[:, None] - white @ self.a.mT  # (n, C)
        log_normal = self.alpha / 2 - self.alpha.exp() / 2 * error.square()[..., None] - LOG_2PI / 2
        log_p = (self.log_prior(white) + log_normal).flatten(1).logsumexp(1)
        return log_p - self.scale_y.log()

    @torch.no_grad()
    def sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y given x (n, d): (n,)."""
        white = self.white(x)
        prior = self.log_prior(white).flatten(1).exp()
        which = torch.multinomial(prior, 1, generator=generator)[:, 0]
        noise = torch.randn(len(x), generator=generator) * (-self.alpha.flatten()[which] / 2).exp()
        residual = (white * self.a[which // self.alpha.shape[1]]).sum(1) + noise
        return self.mean_y + white @ self.linear + self.scale_y * residual


def fit(model: MCGSM, draw: Draw, generator, steps: int, batch=4000, learning_rate=0.02) -> None:
    """Maximise the exact log likelihood by Adam with a rate that falls to zero."""
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        y, x = draw(batch, generator)
        optimiser.zero_grad(set_to_none=True)
        (-model(y, x).mean()).backward()
        optimiser.step()
        falling.step()


def causal(side: int) -> Tensor:
    """Which pixels of a (side, side) window come before its centre, row by row; bool."""
    return (torch.arange(side * side) < side * side // 2).reshape(side, side)


def neighbourhoods(images: Tensor, side: int = 9) -> tuple[Tensor, Tensor]:
    """Pixels y (n, m) of images (n, 1, h, w) with whole neighbourhoods, and these, x (n, m, d)."""
    windows = F.unfold(F.pad(images, (0, 0, 0, side // 2)), side)  # (n, side², m)
    return windows[:, side * side // 2], windows[:, causal(side).flatten()].mT


def drawn_from(images: Tensor, side: int = 9) -> Draw:
    """Draws of pixels at uniform places of images (n, 1, h, w), with their neighbourhoods."""
    n, _, height, width = images.shape
    reach, before = side // 2, torch.nonzero(causal(side)) - side // 2
    flat, steps = images.flatten(), before[:, 0] * width + before[:, 1]

    def draw(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        image = torch.randint(n, (size,), generator=generator)
        row = torch.randint(reach, height, (size,), generator=generator)
        column = torch.randint(reach, width - reach, (size,), generator=generator)
        at = (image * height + row) * width + column
        return flat[at], flat[at[:, None] + steps]

    return draw


@torch.no_grad()
def per_image(model: MCGSM, images: Tensor, side: int = 9) -> Tensor:
    """Mean of log p(y|x) over the pixels of each image with a whole neighbourhood: (n,) nats."""
    pixels = ((y[0], x[0]) for y, x in (neighbourhoods(image, side) for image in images[:, None]))
    return torch.stack([model(y, x).double().mean() for y, x in pixels])


@torch.no_grad()
def sample_image(model: MCGSM, size: int, generator: torch.Generator, side: int = 9) -> Tensor:
    """An image (size, size) drawn pixel by pixel; it begins above in white noise, cut off."""
    reach, above, before = side // 2, size // 4, causal(side)
    noise = torch.randn(size + above, size + 2 * above, generator=generator)
    image = F.pad(model.mean_y + noise, (0, 0, 0, reach))
    for row in range(reach, size + above):
        for column in range(reach, size + 2 * above - reach):
            window = image[row - reach : row + reach + 1, column - reach : column + reach + 1]
            image[row, column] = model.sample(window[before][None], generator)[0]
    return image[above : above + size, above : above + size]
