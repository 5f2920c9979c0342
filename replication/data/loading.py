"""What a model is trained on, from its settings."""

from __future__ import annotations

from nonequilibrium.data.images import ImageSet, Pictures
from nonequilibrium.data.leaves import leaves_pictures
from replication.data.images import load_images
from replication.data.textures import load_pictures


def training_data(settings) -> ImageSet | Pictures:
    """The images of a model's ``settings``; raises DataError if they are absent or unusable."""
    if hasattr(settings, "smallest"):
        return leaves_pictures(settings)
    if hasattr(settings, "patch"):
        return load_pictures(settings.data, settings.channels, settings.patch)
    return load_images(settings.data)
