"""Pictures of any size: bark, and pictures of one's own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Pictures(NamedTuple):
    """train and test: (c, h, w) uint8 each, of any sizes. title: what they are, for captions."""

    train: list[Tensor]
    test: list[Tensor]
    title: str


def load_pictures(name: str, channels: int = 1, patch: int = 64) -> Pictures:
    """Pictures by name or path; raises DataError, with the remedy, if they cannot be used."""
    raise NotImplementedError
