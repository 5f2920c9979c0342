"""The model of pictures of any size: the image model, trained on patches. Its network sees what is
near, so it runs on any size.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nonequilibrium.data.images import Pictures, Scale
from nonequilibrium.model.images import ImageModel

ASIDE = 1 / 8  # part of every training picture, at its foot, that training is watched by


class TextureModel(ImageModel):
    """Trained on patches that are drawn from pictures of any sizes, every place of every picture
    alike.
    """

    defaults: ClassVar[dict[str, Any]] = ImageModel.defaults | {
        "data": "bark",
        "channels": 1,  # of a pixel: 1 grey, 3 colour
        "patch": 64,  # side of a patch, pixels
    }

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a patch."""
        return self.params.channels, self.params.patch, self.params.patch

    def take(self, images: Pictures, generator: torch.Generator) -> Tensor:  # type: ignore[override]
        """Keep the pictures to train on, set the foot of each aside, and return x^0 of a few
        patches, (n, c, h, w).
        """
        patch = self.params.patch
        self.constants.copy_(torch.tensor(self.scale_of(images)))
        self.pictures, watched = [], []
        for picture in images.train:
            cut = picture.shape[-2] - max(patch, int(ASIDE * picture.shape[-2]))
            # A picture too small to share is trained on whole, and watched by too.
            self.pictures.append(picture[:, :cut] if cut >= patch else picture)
            watched.append(picture[:, cut:] if cut >= patch else picture)
        self.validation = patches(watched, patch, 300, generator)
        return self.x0(patches(self.pictures, patch, 100, generator), generator)

    def scale_of(self, images: Pictures) -> Scale:
        """The two constants that shift and scale all pixels alike."""
        return Scale.of(torch.cat([picture.flatten() for picture in images.train]))

    def drawn(self, generator: torch.Generator) -> Tensor:
        """Patches for one training step, (params.batch, c, patch, patch)."""
        return patches(self.pictures, self.params.patch, self.params.batch, generator)


def patches(pictures: list[Tensor], side: int, n: int, generator: torch.Generator) -> Tensor:
    """``n`` square patches from uniform places of ``pictures``, (c, h, w) each of at least that
    side: (n, c, side, side).
    """
    corners = torch.tensor(
        [(p.shape[-2] - side + 1) * (p.shape[-1] - side + 1) for p in pictures], dtype=torch.float64
    )
    which = torch.multinomial(corners, n, replacement=True, generator=generator)
    u, v = torch.rand(2, n, generator=generator, dtype=torch.float64)
    found = []
    for k, picture in enumerate(pictures[i] for i in which.tolist()):
        top = int(u[k] * (picture.shape[-2] - side + 1))
        left = int(v[k] * (picture.shape[-1] - side + 1))
        found.append(picture[:, top : top + side, left : left + side])
    return torch.stack(found)
