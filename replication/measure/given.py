"""What every part of an image experiment's measuring is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.bound.bound import Bound
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.model.images import ImageModel
from replication.measure.metrics import seeded
from replication.settings.evaluation import ImageEvaluation


@dataclass(frozen=True)
class Given:
    """A trained image model with the images and the bound it has been measured by.

    images: its data set. heldout: x^0 of the first test images, (n, c, h, w). bound: K of them.
    its: the settings.
    """

    experiment: str
    model: ImageModel
    kernel: GaussianKernel
    images: ImageSet
    heldout: Tensor
    bound: Bound
    its: ImageEvaluation

    @property
    def reverse(self) -> Reverse[Normal]:
        """p(x^{t−1}|x^t) as a function of (x^t, t)."""
        return self.model.reverse(self.kernel)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.model.network.shape

    @property
    def thin_steps(self) -> int:
        """Steps of the chain that many samples are drawn by, at most all T."""
        return min(self.its.thin_steps, self.kernel.T)

    def thin(self) -> tuple[GaussianKernel, Reverse[Normal]]:
        """(kernel, reverse) of that chain."""
        return self.model.thinned(self.thin_steps)

    def seeded(self, offset: int) -> torch.Generator:
        """The generator of one thing that is drawn: its seed is the settings' plus ``offset``."""
        return seeded(self.its.seed + offset)

    def noisy(self, images: Tensor, offset: int) -> Tensor:
        """x of uint8 images, with the noise of one grey level drawn from ``offset``."""
        return self.model.scale.dequantise(images, self.seeded(offset))
