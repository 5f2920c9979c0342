"""Dead leaves (Jeulin 1997; Lee, Mumford & Huang 2001): opaque discs that fall until none is bare.
Radii have a density ∝ r^−3 between two cut-offs, for which images look alike at every scale; places
and greys on 0..1 are uniform. Pixels get Gaussian noise, without which a flat leaf has no density.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from nonequilibrium.data.images import Pictures

MEAN, VARIANCE = 0.5, 1 / 12  # of the greys
TRAIN_SEED, TEST_SEED = 1, 2  # part of the data: a training of another seed sees the same images
BARE = np.iinfo(np.int64).max  # of a pixel that no leaf covers yet


class Leaves(NamedTuple):
    """Leaves in the order in which they are seen, in pixels, (n,) float64 each."""

    radius: np.ndarray
    x: np.ndarray
    y: np.ndarray
    grey: np.ndarray


def radii(u: np.ndarray, smallest: float, largest: float) -> np.ndarray:
    """Radii with density ∝ r^−3 on [smallest, largest], from ``u`` uniform on [0, 1)."""
    return (smallest**-2 - u * (smallest**-2 - largest**-2)) ** -0.5


def dead_leaves(
    size: int, smallest: float, largest: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Leaves]:
    """An image without noise: greys (size, size) float32, the leaf of each pixel, and all leaves
    that fell near enough to be seen, the last to fall, on top, first.
    """
    side = size + 2 * largest  # centres reach as far beyond the border as radii do
    area = 2 * math.pi * math.log(largest / smallest) / (smallest**-2 - largest**-2)
    cover = area / side**2  # of the plane, by one leaf
    n = int(2 / cover) + 1  # after ln(size²)/cover leaves few pixels are bare
    top, seen = np.full((size, size), BARE), np.empty((4, 0))
    while (top == BARE).any():
        u, x, y, grey = generator.random((4, n))
        radius, x, y = radii(u, smallest, largest), x * side - largest, y * side - largest
        near = np.hypot(x - np.clip(x, 0, size), y - np.clip(y, 0, size)) <= radius
        leaves = np.stack([radius, x, y, grey])[:, near]
        _cover(top, leaves, seen.shape[1])
        seen = np.concatenate([seen, leaves], axis=1)
    every = Leaves(*seen)
    return every.grey[top].astype(np.float32), top, every


def _cover(top: np.ndarray, leaves: np.ndarray, first: int) -> None:
    """Give each bare pixel the first of ``leaves``, numbered from ``first``, that covers it."""
    size, number, least, reach = len(top), first + np.arange(leaves.shape[1]), 0, 1
    while least < leaves[0].max(initial=0):  # leaves of like size at once: few pixels in vain
        some = (leaves[0] > least) & (leaves[0] <= reach)
        radius, x, y, _ = leaves[:, some]
        offset = np.arange(-reach - 1, reach + 1)
        rows, columns = (np.floor(c).astype(np.int64)[:, None] + offset for c in (y, x))
        dy, dx = (rows + 0.5 - y[:, None]) ** 2, (columns + 0.5 - x[:, None]) ** 2
        inside = dy[:, :, None] + dx[:, None, :] <= (radius**2)[:, None, None]
        inside &= ((rows >= 0) & (rows < size))[:, :, None]
        inside &= ((columns >= 0) & (columns < size))[:, None, :]
        k, i, j = np.nonzero(inside)
        np.minimum.at(top.reshape(-1), rows[k, i] * size + columns[k, j], number[some][k])
        least, reach = reach, 2 * reach


def leaves_images(n: int, size: int, smallest: float, largest: float, seed: int):
    """n images without noise, greys on 0..1, and the leaf of each pixel: (n, 1, size, size) each;
    the k-th depends on (seed, k) alone.
    """
    seeds = [np.random.default_rng([seed, k]) for k in range(n)]
    drawn = [dead_leaves(size, smallest, largest, generator)[:2] for generator in seeds]
    return tuple(torch.from_numpy(np.stack(x))[:, None] for x in zip(*drawn, strict=True))


def leaves_pictures(settings) -> Pictures:
    """Training and test images of ``settings``: n_train, n_test, size, smallest, largest."""
    p, numbers = settings, ((settings.n_train, TRAIN_SEED), (settings.n_test, TEST_SEED))
    law = p.size, p.smallest, p.largest
    train, test = (list(leaves_images(n, *law, seed)[0]) for n, seed in numbers)
    title = f"dead leaves, radii from {p.smallest:g} to {p.largest:g} pixels"
    return Pictures(train, test, title)
