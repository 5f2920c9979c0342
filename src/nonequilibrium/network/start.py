"""How an image network starts: units that see fine differences, which gradient ascent is slow to
find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GAIN = 5.0  # of the maps of differences, which are small where images are smooth
FINEST_DIFFERENCE = 0.02  # about one grey level of data of variance one


def differences(convs: Sequence[nn.Conv2d], generator: torch.Generator) -> int:
    """Let three quarters of the first maps be differences between a pixel and a mean of its
    neighbours; returns how many.

    convs: the convolutions of the first layer, from the finest scale to the coarsest.
    """
    weight = convs[0].weight
    count, channels, width = len(weight) * 3 // 4, weight.shape[1], weight.shape[-1]
    neighbours = torch.rand(count, width, width, generator=generator).square()
    neighbours[:, width // 2, width // 2] = 0
    spatial = -neighbours / neighbours.sum((1, 2), keepdim=True)
    spatial[:, width // 2, width // 2] = 1
    colour = F.normalize(torch.randn(count, channels, generator=generator), dim=1)
    weight[:count] = GAIN * colour[:, :, None, None] * spatial[:, None]
    for coarser in convs[1:]:
        coarser.weight[:count] = 0
    return count


def steps_at_differences(
    weight: Tensor, bias: Tensor, maps: slice, generator: torch.Generator
) -> None:
    """Let 1×1 units be steps near zero of mixtures of the maps of differences, of widths from one
    to the finest difference.
    """
    units = len(weight)
    steepness = torch.exp(torch.linspace(0, -math.log(FINEST_DIFFERENCE), units))[:, None]
    weight.zero_()
    mixture = F.normalize(torch.randn(units, maps.stop - maps.start, generator=generator), dim=1)
    weight[:, maps] = steepness * mixture / GAIN
    bias.copy_(0.5 * torch.randn(units, generator=generator))


def steps_at_pixels(
    weight: Tensor, bias: Tensor, pixels: Tensor, finest: float, generator: torch.Generator
) -> None:
    """Let 1×1 units be steps at values of training pixels, of widths from one to ``finest``: the
    noise spans that range too.
    """
    units, channels = len(weight), pixels.shape[1]
    direction = F.normalize(torch.randn(units, channels, generator=generator), dim=1)
    steepness = torch.exp(torch.linspace(0, math.log(1 / finest), units))[:, None]
    place = pixels[torch.randint(len(pixels), (units,), generator=generator)]
    weight[:, :channels] = steepness * direction
    bias.copy_(-(steepness * direction * place).sum(1))


def dense_values_are_z(dense: Sequence[nn.Linear], values: int, readout: Tensor) -> None:
    """Let the first of a pixel's ``values`` from the dense path, one a colour, be z^μ at every t,
    from zero on.

    readout: (bumps, features, 2 × channels), the weights of the temporal readout. What the dense
    path learns then reaches z^μ from the first step, and not only through the 1×1 units. No layer
    starts saturated.
    """
    for layer in dense[:-1]:
        layer.weight.mul_(0.6)
    dense[-1].weight.mul_(0.3)
    for colour in range(min(values, readout.shape[-1] // 2)):
        dense[-1].weight.unflatten(0, (-1, values))[:, colour] = 0
        readout[:, colour - values, colour] = 1
