"""Which model belongs to which experiment."""

from __future__ import annotations

from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.experiment.toys import HeartbeatModel, SwissRollModel

MODELS = {
    "swiss_roll": SwissRollModel,
    "swiss_roll_wide": SwissRollModel,
    "heartbeat": HeartbeatModel,
    "mnist": ImageModel,
    "mnist_sharp": ImageModel,
    "mnist_conv": ImageModel,
    "cifar10_cpu": ImageModel,
    "cifar10_modern": ImageModel,
}
