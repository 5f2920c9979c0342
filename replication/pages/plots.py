"""Drawings that several notebooks share: sheets and strips of images."""

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from replication.data.pictures import rows


def draw_image(ax, image: Tensor, white: int = 255) -> None:
    """An image (c, h, w) uint8 without axes. white: the grey level that is drawn white."""
    picture = image.movedim(0, -1).squeeze(-1).numpy()
    ax.imshow(picture, cmap="gray", vmin=0, vmax=white, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def image_grid(images: Tensor, columns: int, title: str = "", white: int = 255) -> Figure:
    """Images (n, c, h, w) uint8 in rows of ``columns``."""
    down = -(-len(images) // columns)
    figure, ax = plt.subplots(figsize=(0.62 * columns, 0.62 * down + 0.3))
    draw_image(ax, rows(images, columns, white=white), white)
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
