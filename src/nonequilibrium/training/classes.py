"""A small classifier of noisy images: r_t(x^t) = E[p(y|x^0)|x^t] = p(y|x^t) restricts a model to a
class (section 2.5), which later papers call guidance (Dhariwal & Nichol 2021).
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Kernel
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import Shift
from nonequilibrium.network.outputs import Step
from nonequilibrium.training.fit import Ascent, Watch, fit

EMBEDDING = 32  # values that say how noisy an image is
WIDTHS = 24, 48, 64  # maps of the three convolutions, each of which halves the sides
LEAST_NOISE = -12.0  # of log((1−ᾱ_t)/ᾱ_t), which is −∞ for data without noise


class NoisyClassifier(nn.Module):
    """``classifier(kernel, xt, t)``: log p(y|x^t, t), (n, classes) nats, of images (n, *shape)."""

    def __init__(self, shape: tuple[int, ...], classes: int, generator: Generator):
        super().__init__()
        self.shape = shape
        widths = pairwise((shape[0], *WIDTHS))
        convolutions: list[Any] = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in widths]
        self.convolutions = nn.ModuleList(convolutions)
        self.noise = nn.Linear(EMBEDDING, 2 * sum(WIDTHS))  # scales and shifts each map
        places = math.prod(-(-side // 2 ** len(WIDTHS)) for side in shape[1:])
        self.readout = nn.Linear(WIDTHS[-1] * places, classes)
        with torch.no_grad():
            for layer in (*convolutions, self.readout):
                layer.bias.zero_()
                layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=generator)
            self.readout.weight.mul_(0.1)  # all classes are about equally likely at the start
            self.noise.weight.zero_()
            self.noise.bias.zero_()

    def forward(self, kernel: Kernel, xt: Tensor, t: Step) -> Tensor:
        log_noise = torch.log(kernel.one_minus_alpha_bar) - kernel.log_alpha_bar
        level = log_noise.clamp(min=LEAST_NOISE)[t].to(xt).expand(len(xt))
        frequency = torch.exp(torch.linspace(-3, 1, EMBEDDING // 2, device=xt.device))
        angle = level[:, None] * frequency
        noise = self.noise(torch.cat([torch.sin(angle), torch.cos(angle)], 1))[:, :, None, None]
        h, parts = xt, noise.split([2 * width for width in WIDTHS], 1)
        for convolution, part in zip(self.convolutions, parts, strict=True):
            scale, shift = part.chunk(2, 1)
            h = F.silu(torch.addcmul(shift, convolution(h), 1 + scale))
        return torch.log_softmax(self.readout(h.flatten(1)), 1)


def class_guide(classifier: Callable, kernel: Kernel, y: Tensor, power: float = 1.0) -> Shift:
    """The factor r_t = p(y|x^t)^power for samples of the classes y (n,), by the shift (61)."""
    return Shift(lambda x, t: power * classifier(kernel, x, t).gather(1, y[:, None])[:, 0])


def fit_classifier(
    classifier: NoisyClassifier,
    kernel: GaussianKernel,
    x0: Callable[[Tensor, Generator], Tensor],
    labels: Tensor,
    steps: int,
    seed: int,
    noisy: bool = True,
) -> None:
    """Maximise the mean of log p(y|x^t, t), each example at a t of its own in 0..T, or at t = 0.

    x0: from indices (batch,) of examples and a generator to x^0. labels: (n,) classes.
    """

    def objective(generator: Generator) -> Tensor:
        chosen = torch.randint(len(labels), (128,), generator=generator)
        x, t = x0(chosen, generator), torch.zeros_like(chosen)
        t = torch.randint(kernel.T + 1, t.shape, generator=generator) if noisy else t
        x = kernel.sample(kernel.q_marginal(x, t), generator)
        return classifier(kernel, x, t).gather(1, labels[chosen][:, None]).mean()

    groups = [{"params": list(classifier.parameters()), "lr": 3e-3}]
    adam = Ascent(partial(torch.optim.Adam, betas=(0.9, 0.99)), warmup=20)
    fit(classifier, objective, groups, steps, seed, adam, Watch("classifier", steps))
