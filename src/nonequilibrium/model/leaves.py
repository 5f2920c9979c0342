"""The model of dead leaves, whose pixels get the noise that belongs to the data."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from nonequilibrium.data.images import Pictures, Scale
from nonequilibrium.data.leaves import MEAN, VARIANCE
from nonequilibrium.model.textures import TextureModel


class LeavesModel(TextureModel):
    """Trained on patches of images without noise, greys on 0..1; each patch gets fresh noise.

    noise: its σ. smallest, largest: radii of leaves, pixels. size: side of an image, pixels.
    """

    law = {"noise": 0.02, "smallest": 1.0, "largest": 256.0, "size": 256}
    defaults = TextureModel.defaults | law | {"data": "dead_leaves", "n_train": 200, "n_test": 100}

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.params.patch, self.params.patch

    def scale_of(self, images: Pictures) -> Scale:
        """The constants of the law, whose grey is uniform at every place."""
        return Scale(MEAN, math.sqrt(VARIANCE + self.params.noise**2))

    def x0(self, images: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        mean, sigma = self.constants.unbind()
        return (images + self.params.noise * noise - mean) / sigma
