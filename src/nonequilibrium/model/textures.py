"""Models of pictures of any size, trained on patches: a network sees what is near a pixel."""

import math

import torch
from torch import Generator, Tensor

from nonequilibrium.data.images import Pictures, Scale
from nonequilibrium.data.leaves import MEAN, VARIANCE
from nonequilibrium.model.images import ImageModel

ASIDE = 1 / 8  # part of every training picture, at its foot, that training is watched by


class TextureModel(ImageModel):
    """Trained on patches, of ``patch`` pixels a side, from uniform places of pictures."""

    defaults = ImageModel.defaults | {"data": "bark", "channels": 1, "patch": 64}

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.params.channels, self.params.patch, self.params.patch

    def take(self, images: Pictures, generator: Generator) -> Tensor:  # type: ignore[override]
        """As of images; of each picture the foot is set aside."""
        patch = self.params.patch
        self.constants.copy_(torch.tensor(self.scale_of(images)))
        self.pictures, watched = [], []
        for picture in images.train:
            cut = picture.shape[-2] - max(patch, int(ASIDE * picture.shape[-2]))
            shared = cut >= patch  # a smaller picture is trained on whole, and watched by too
            self.pictures.append(picture[:, :cut] if shared else picture)
            watched.append(picture[:, cut:] if shared else picture)
        self.validation = patches(watched, patch, 300, generator)
        return self.x0(patches(self.pictures, patch, 100, generator), generator)

    def scale_of(self, images: Pictures) -> Scale:
        """The constants that shift and scale all pixels alike."""
        return Scale.of(torch.cat([picture.flatten() for picture in images.train]))

    def drawn(self, generator: Generator) -> Tensor:
        return patches(self.pictures, self.params.patch, self.params.batch, generator)


class LeavesModel(TextureModel):
    """Trained on dead leaves without noise, greys on 0..1; each patch gets fresh noise."""

    law = {"noise": 0.02, "smallest": 1.0, "largest": 256.0, "size": 256}  # σ; radii, side: pixels
    defaults = TextureModel.defaults | law | {"data": "dead_leaves", "n_train": 200, "n_test": 100}

    @property
    def shape(self) -> tuple[int, int, int]:  # ``channels`` may be those of a U-Net
        return 1, self.params.patch, self.params.patch

    def scale_of(self, images: Pictures) -> Scale:
        """The constants of the law, whose grey is uniform at every place."""
        return Scale(MEAN, math.sqrt(VARIANCE + self.params.noise**2))

    def x0(self, images: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        mean, sigma = self.constants.unbind()
        return (images + self.params.noise * noise - mean) / sigma


def patches(pictures: list[Tensor], side: int, n: int, generator: Generator) -> Tensor:
    """Square patches from uniform places of ``pictures``, (c, h, w) each: (n, c, side, side)."""
    corners = torch.tensor([[p.shape[-2], p.shape[-1]] for p in pictures]).double() - side + 1
    which = torch.multinomial(corners.prod(1), n, replacement=True, generator=generator)
    u = torch.rand(2, n, generator=generator, dtype=torch.float64)
    places = (u.T * corners[which]).long().tolist()
    cut = zip((pictures[k] for k in which.tolist()), places, strict=True)
    return torch.stack([p[:, top : top + side, left : left + side] for p, (top, left) in cut])
