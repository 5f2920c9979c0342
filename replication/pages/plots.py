"""Drawings that several notebooks share: sheets and strips of images."""

from __future__ import annotations

import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

GAP = 2  # pixels of the sheet between images


def draw_image(ax, image: Tensor, white: int = 255) -> None:
    """An image (c, h, w) uint8 without axes. white: the grey level that is drawn white."""
    array = image.numpy()
    picture = array[0] if len(array) == 1 else array.transpose(1, 2, 0)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def sheet(images: Tensor, columns: int, white: int = 255) -> Tensor:
    """Images (n, c, h, w) in rows of ``columns`` with gaps between them, (c, H, W)."""
    n, c, h, w = images.shape
    rows = -(-n // columns)
    size = rows * (h + GAP) - GAP, columns * (w + GAP) - GAP
    paper = torch.full((c, *size), white, dtype=torch.uint8)
    for number, image in enumerate(images):
        top, left = (h + GAP) * (number // columns), (w + GAP) * (number % columns)
        paper[:, top : top + h, left : left + w] = image
    return paper


def image_grid(images: Tensor, columns: int, title: str = "", white: int = 255) -> Figure:
    """Images (n, c, h, w) uint8 in rows of ``columns``."""
    rows = -(-len(images) // columns)
    figure, ax = plt.subplots(figsize=(0.62 * columns, 0.62 * rows + 0.3))
    draw_image(ax, sheet(images, columns, white), white)
    ax.set_title(title, fontsize=9)
    return figure


def image_strips(strips: dict[str, Tensor], title: str = "", white: int = 255) -> Figure:
    """One labelled row per entry {label: images (n, c, h, w) uint8}, one column per image."""
    n = max(map(len, strips.values()))
    size = 0.82 * n, 0.82 * len(strips)
    figure, axes = plt.subplots(len(strips), n, figsize=size, squeeze=False)
    for row, (label, images) in zip(axes, strips.items(), strict=True):
        for ax in row[len(images) :]:
            ax.set_visible(False)
        for ax, image in zip(row, images, strict=False):
            draw_image(ax, image, white)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=10, y=1 + 0.12 / len(strips))
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.04, hspace=0.04)
    return figure
