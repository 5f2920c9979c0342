"""How an image network starts: random, and with units for fine differences, learned late else."""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

GAIN = 5.0  # of the maps of differences, which are small where images are smooth
FINEST_DIFFERENCE = 0.02  # about one grey level of data of variance one


def random_weights(network: nn.Module, generator: Generator) -> None:
    """Weights of variance 1/fan-in, except those that are zero throughout; biases of zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if layer.weight.any():
                weight = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(weight / layer.weight[0].numel() ** 0.5)
            if layer.bias is not None:
                layer.bias.zero_()


def differences(convs: Any, generator: Generator) -> int:
    """Make three quarters of the first maps a pixel less a mean of its neighbours; how many."""
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


def steps_at_differences(weight: Tensor, bias: Tensor, maps: slice, generator: Generator) -> None:
    """Make 1×1 units steps near zero of mixtures of ``maps``, of widths from one to the finest."""
    units = len(weight)
    steepness = torch.exp(torch.linspace(0, -math.log(FINEST_DIFFERENCE), units))[:, None]
    weight.zero_()
    mixture = F.normalize(torch.randn(units, maps.stop - maps.start, generator=generator), dim=1)
    weight[:, maps] = steepness * mixture / GAIN
    bias.copy_(0.5 * torch.randn(units, generator=generator))


def steps_at_pixels(
    weight: Tensor, bias: Tensor, pixels: Tensor, finest: float, generator: Generator
) -> None:
    """Make 1×1 units steps at values of training pixels, of widths from one to ``finest``."""
    units, channels = len(weight), pixels.shape[1]
    direction = F.normalize(torch.randn(units, channels, generator=generator), dim=1)
    steepness = torch.exp(torch.linspace(0, math.log(1 / finest), units))[:, None]
    place = pixels[torch.randint(len(pixels), (units,), generator=generator)]
    weight[:, :channels] = steepness * direction
    bias.copy_(-(steepness * direction * place).sum(1))


def dense_values_are_z(dense: Any, values: int, readout: Tensor) -> None:
    """Make the first of a pixel's ``values`` from the dense path, one per colour, its z^μ: zero."""
    for layer in dense[:-1]:
        layer.weight.mul_(0.6)  # no layer starts saturated
    dense[-1].weight.mul_(0.3)
    for colour in range(min(values, readout.shape[-1] // 2)):
        dense[-1].weight.unflatten(0, (-1, values))[:, colour] = 0
        readout[:, colour - values, colour] = 1
