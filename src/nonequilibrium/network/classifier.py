"""A small classifier of noisy images, p(y|x^t, t): the r that makes a model of all digits one of
the digits of a class.

Let r(x^0) = p(y|x^0) be the probability of a class given a clean image. The chain of p(x^0) r(x^0)
is exact if every reverse kernel is multiplied by r_t(x^t) = E[r(x^0)|x^t] (section 2.5). Given x^0
the noise says nothing of the class, so that this expectation is p(y|x^t), which is what a
classifier of noisy images learns. Nothing has to be looked at through the model. Later papers call
this classifier guidance (Dhariwal & Nichol 2021).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonequilibrium.diffusion.chain import Kernel
from nonequilibrium.diffusion.posterior import Shift

EMBEDDING = 32  # values that say how noisy an image is
WIDTHS = 24, 48, 64  # maps of the three convolutions, each of which halves the sides
LEAST_NOISE = -12.0  # of log((1−ᾱ_t)/ᾱ_t): data without noise are taken for this noisy


class NoisyClassifier(nn.Module):
    """log p(y|x^t, t) of images: three convolutions and a linear layer, told how noisy x^t is.

    shape: (channels, height, width). classes: how many y there are. generator: of the weights at
    the start. Called as ``classifier(kernel, xt, t)`` with xt (n, *shape) and t (n,) or one number,
    it returns (n, classes), nats.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, generator: torch.Generator):
        super().__init__()
        self.shape = shape
        channels = (shape[0], *WIDTHS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1)
            for a, b in zip(channels, channels[1:], strict=False)
        )
        self.noise = nn.Linear(EMBEDDING, 2 * sum(WIDTHS))  # scales and shifts each map
        sides = [side for side in shape[1:]]
        for _ in WIDTHS:
            sides = [-(-side // 2) for side in sides]
        self.readout = nn.Linear(WIDTHS[-1] * math.prod(sides), classes)
        with torch.no_grad():
            for layer in (*self.convolutions, self.readout):
                layer.bias.zero_()
                layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=generator)
            self.readout.weight.mul_(0.1)  # all classes are about equally likely at the start
            self.noise.weight.zero_()
            self.noise.bias.zero_()

    def forward(self, kernel: Kernel, xt: Tensor, t: Tensor | int) -> Tensor:
        log_noise = torch.log(kernel.one_minus_alpha_bar) - kernel.log_alpha_bar
        level = log_noise.clamp(min=LEAST_NOISE)[t].to(xt).expand(len(xt))
        frequency = torch.exp(torch.linspace(-3, 1, EMBEDDING // 2, device=xt.device))
        angle = level[:, None] * frequency
        scales = self.noise(torch.cat([torch.sin(angle), torch.cos(angle)], 1)).split(
            [2 * w for w in WIDTHS], 1
        )
        h = xt
        for convolution, its in zip(self.convolutions, scales, strict=True):
            scale, shift = its[:, :, None, None].chunk(2, 1)
            h = F.silu(torch.addcmul(shift, convolution(h), 1 + scale))
        return torch.log_softmax(self.readout(h.flatten(1)), 1)


def class_guide(classifier, kernel: Kernel, y: Tensor, power: float = 1.0) -> Shift:
    """The factor r of ``sampling.sample`` that makes its samples those of the classes y, by the
    shift (61).

    classifier: from (kernel, x^t (n, event), t) to log p(y|x^t), (n, classes) nats, differentiable.
    y: (n,) the wanted class of each.
    power: r_t = p(y|x^t)^power; only with 1 is it the expectation of r(x^0) given x^t.
    """

    def log_r_t(x: Tensor, t: int) -> Tensor:
        return power * classifier(kernel, x, t).gather(1, y[:, None])[:, 0]

    return Shift(log_r_t)
