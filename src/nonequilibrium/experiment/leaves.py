"""The model of dead leaves: the model of pictures of any size, whose pixels get the noise that belongs to the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nonequilibrium.data.images import Scale
from nonequilibrium.data.leaves import MEAN, VARIANCE, leaves_images
from nonequilibrium.data.textures import Pictures
from nonequilibrium.experiment.textures import TextureModel
from nonequilibrium.params import LeavesLaw

# Seeds of the images. They are part of the data: a training of another seed sees the same ones.
TRAIN_SEED, TEST_SEED = 1, 2


class LeavesModel(TextureModel):
    """Trained on patches of images without noise, (1, size, size) float32 with greys on 0..1; each patch gets fresh noise."""

    params: LeavesLaw  # type: ignore[assignment]

    @staticmethod
    def shape_of(params) -> tuple[int, int, int]:
        """(channels, height, width) of a patch: grey."""
        return 1, params.patch, params.patch

    @staticmethod
    def data(params) -> Pictures:  # type: ignore[override]
        """Images drawn for these parameters."""
        p = params
        train, test = (
            leaves_images(n, p.size, p.smallest, p.largest, seed)
            for n, seed in [(p.n_train, TRAIN_SEED), (p.n_test, TEST_SEED)]
        )
        return Pictures(list(train), list(test), f"dead leaves, radii from {p.smallest:g} to {p.largest:g} pixels")

    def scale_of(self, images: Pictures) -> Scale:
        """The constants of the law itself, which are known: its grey is uniform, and so the same at every place."""
        return Scale(MEAN, math.sqrt(VARIANCE + self.params.noise**2))

    def x0(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """x^0 of images (n, 1, h, w) without noise: with the noise of the data, shifted and scaled."""
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        mean, sigma = self.constants.unbind()
        return (images + self.params.noise * noise - mean) / sigma
