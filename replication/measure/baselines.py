"""Baselines of image models: bits of images (n, c, h, w) uint8 under tables of counts."""

from collections.abc import Callable

import torch
from torch import Tensor

from nonequilibrium.data.images import ImageSet

SMOOTHING = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # prior counts
CONTEXTS = (1, 4, 16, 64, 256)  # levels to which a neighbour is rounded


def _counts(index, images: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """How often each of the values 0..size − 1 of ``index`` occurs in the images, (size,)."""
    counts = torch.zeros(size, dtype=dtype)
    for part in images.split(5000):
        counts += torch.bincount(index(part).flatten(), minlength=size)
    return counts


def _costs(index, images: Tensor, law: Tensor) -> Tensor:
    """Bits per dimension of each image under the probabilities ``law``, flat as ``index``: (n,)."""
    return torch.cat([-law.flatten()[index(part)].log2().mean(1) for part in images.split(1000)])


def _chosen(index, aside: Tensor, smoothed: Callable[[float], Tensor]) -> Tensor:
    """The smoothed law under which the images ``aside`` cost least."""
    costs = {weight: float(_costs(index, aside, smoothed(weight)).mean()) for weight in SMOOTHING}
    return smoothed(min(costs, key=costs.__getitem__))


def pixel_histogram(train: Tensor, aside: Tensor, test: Tensor) -> Tensor:
    """Bits per dimension of each test image under a histogram per pixel and channel, (n,)."""
    place = 256 * torch.arange(train[0].numel())

    def index(images: Tensor) -> Tensor:
        return images.flatten(1).long() + place

    counts = _counts(index, train, 256 * len(place), torch.int64).reshape(-1, 256).double()

    def smoothed(added: float) -> Tensor:
        return (counts + added) / (counts.sum(1, keepdim=True) + 256 * added)

    return _costs(index, test, _chosen(index, aside, smoothed))


def two_neighbours(train: Tensor, aside: Tensor, test: Tensor) -> Tensor:
    """Bits per dimension of each test image under histograms given the left and upper pixel, (n,).

    Outside of the image a neighbour is 0. Counts in a rare context are smoothed by those in the
    same context with fewer levels. Each channel has its own histograms.
    """
    channels = range(train.shape[1])
    parts = ([images[:, [c]] for images in (train, aside, test)] for c in channels)
    return torch.stack([_of_channel(*part) for part in parts]).mean(0)


def _of_channel(train: Tensor, aside: Tensor, test: Tensor) -> Tensor:
    law = torch.full((1, 1, 256), 1 / 256)
    for levels in CONTEXTS:

        def index(images: Tensor, levels=levels) -> Tensor:
            left, above = torch.zeros(2, *images.shape, dtype=torch.int32)
            left[..., 1:], above[..., 1:, :] = images[..., :-1], images[..., :-1, :]
            context = (left * levels // 256) * levels + above * levels // 256
            return (context * 256 + images).flatten(1)

        counts = _counts(index, train, levels**2 * 256, torch.float32).reshape(levels, levels, 256)
        times, seen = levels // len(law), counts.sum(2, keepdim=True)
        coarse = law.repeat_interleave(times, 0).repeat_interleave(times, 1)

        def smoothed(weight: float, counts=counts, coarse=coarse, seen=seen) -> Tensor:
            return (counts + weight * coarse) / (seen + weight)

        law = _chosen(index, aside, smoothed)
    return _costs(index, test, law)


def histograms(images: ImageSet, aside: int) -> dict[str, Tensor]:
    """Bits per dimension of each test image, {name: (n,)}; ``aside`` images choose smoothings."""
    parts, name = (images.train[:-aside], images.train[-aside:], images.test), "a histogram "
    laws = {"for each pixel": pixel_histogram, "given left and upper pixel": two_neighbours}
    return {name + given: law(*parts) for given, law in laws.items()}
