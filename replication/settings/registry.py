"""Every experiment, declared once. Command line, parameters, measuring, tables, README and tests
read it from here.

A new experiment is an entry here, a section of ``params.yaml``, a notebook that draws and explains
it, and its stages in ``dvc.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from nonequilibrium.bound.optimum import PointsOptimum, SwissRollOptimum
from nonequilibrium.data.leaves import leaves_images
from nonequilibrium.data.toys import SwissRoll
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.leaves import LeavesModel
from nonequilibrium.model.model import Model
from nonequilibrium.model.textures import TextureModel
from nonequilibrium.model.toys import HeartbeatModel, PointsModel
from replication.settings import evaluation, paper, params


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is known of an experiment before it runs."""

    title: str  # in tables
    data: str  # a law of data.toys or a data set of data.images
    notebook: str  # that draws and explains it
    model: Callable[..., Model]  # built from its parameters
    params: type  # the dataclass of its section of params.yaml
    evaluation: str  # the section of params.yaml by which it is measured
    unit: str  # of K
    paper: dict = field(default_factory=dict)  # its row of the paper's Table 1
    parts: tuple[str, ...] = ()  # what is measured beside K: functions of measure.images
    replication: bool = True  # False: a network that the paper does not have
    optimum: Callable[..., PointsOptimum] | None = (
        None  # the best reverse for a kernel and a law of points, by which K* is measured
    )
    draws: Callable | None = None  # the function that draws its images, where they are not fetched
    measured_by: str = (
        ""  # the module of measure/ that measures it, where it is not that of its kind
    )
    quick: dict = field(
        default_factory=dict
    )  # parameters with which it trains in seconds; steps are upper limits
    quick_evaluation: dict = field(default_factory=dict)  # and with which it is measured then

    @property
    def images(self) -> bool:
        """Whether it models images, whose weights lie in models/ and whose training takes long."""
        return issubclass(self.params, params.ImageParams)

    @property
    def measure(self) -> str:
        """The module that measures it."""
        kind = "images" if self.images else "points" if self.optimum else self.data
        return f"replication.measure.{self.measured_by or kind}"


_QUICK_ROLL = {"starts": 1, "train_steps": 2500}
_MEASURE_ROLL = {"n_heldout": 2000, "n_optimum": 400, "n_samples": 2000}
# Quick runs of image experiments use images that a dependency ships, so that nothing is fetched.
_QUICK_DIGITS = {
    "data": "digits",
    "n_steps": 100,
    "ema": 0.98,
    "batch": 64,
    "train_steps": 600,
    "beta_1": 1e-3,
}
_QUICK_PHOTOGRAPHS = _QUICK_DIGITS | {
    "data": "photographs",
    "beta_1": 1e-4,
    "batch": 16,
    "ema": 0.95,
}
_QUICK_TEXTURES = _QUICK_DIGITS | {
    "data": "textures",
    "beta_1": 1e-4,
    "ema": 0.95,
    "batch": 4,
    "patch": 32,
}
_QUICK_UNET = {"train_steps": 200, "channels": 12, "levels": 2, "blocks": 1}
_MEASURE_DIGITS = {"n_heldout": 200, "draws": 4, "n_samples": 500}
_MEASURE_PHOTOGRAPHS = {
    "n_heldout": 60,
    "n_posterior": 8,
    "posterior_samples": 2,
    "thin_steps": 25,
    "n_shown": 20,
}

_QUICK_LEAVES = {
    "n_steps": 100,
    "size": 64,
    "patch": 32,
    "n_train": 20,
    "n_test": 20,
    "largest": 32.0,
    "conv_channels": 12,
} | {
    "scales": 3,
    "pixel_units": 24,
    "batch": 8,
    "ema": 0.95,
    "train_steps": 300,
}

_ROLL = Experiment(
    title="Swiss roll, the paper's 16 units",
    data="swiss_roll",
    notebook="01_swiss_roll",
    model=partial(PointsModel, law=SwissRoll),
    optimum=SwissRollOptimum,
    params=params.PointsParams,
    evaluation="evaluate_swiss_roll",
    unit="bits per point",
    paper=paper.TABLE_1["swiss_roll"],
    quick=_QUICK_ROLL,
    quick_evaluation=_MEASURE_ROLL,
)
_MNIST = Experiment(
    title="MNIST, two dense networks (the paper's path)",
    data="mnist",
    notebook="03_mnist",
    model=ImageModel,
    params=params.SplitNetworkParams,
    evaluation="evaluate_mnist",
    unit="bits per pixel",
    parts=("histograms", "thinned", "window", "calibration", "shown", "halves"),
    quick=_QUICK_DIGITS | {"dense_units": 256},
    quick_evaluation=_MEASURE_DIGITS,
)
_CIFAR10 = Experiment(
    title="CIFAR-10, half an hour of training on two CPU cores",
    data="cifar10",
    notebook="04_cifar10",
    model=ImageModel,
    params=params.PaperNetworkParams,
    evaluation="evaluate_cifar10",
    unit="bits per pixel",
    paper=paper.TABLE_1["cifar10"],
    parts=("histograms", "thinned", "shown", "figure_3", "inpainting", "denoising"),
    quick=_QUICK_PHOTOGRAPHS
    | {"train_steps": 250, "conv_channels": 12, "scales": 3, "pixel_units": 24},
    quick_evaluation=_MEASURE_PHOTOGRAPHS,
)
_CIFAR10_UNET = Experiment(
    title="CIFAR-10, a U-Net",
    data="cifar10",
    notebook="04_cifar10",
    model=ImageModel,
    params=params.UNetParams,
    evaluation="evaluate_cifar10_unet",
    unit="bits per pixel",
    parts=("shown", "guided"),
    replication=False,
    quick=_QUICK_PHOTOGRAPHS | _QUICK_UNET | {"batch": 8},
    quick_evaluation=_MEASURE_PHOTOGRAPHS,
)
_LEAVES = Experiment(
    title="Dead leaves",
    data="dead_leaves",
    notebook="05_dead_leaves",
    model=LeavesModel,
    params=params.LeavesParams,
    evaluation="evaluate_dead_leaves",
    unit="bits per pixel",
    draws=leaves_images,
    measured_by="leaves",
    paper=paper.TABLE_1["dead_leaves"],
    quick=_QUICK_LEAVES,
    quick_evaluation={"n_heldout": 6, "draws": 4, "mcgsm_steps": 150},
)
EXPERIMENTS = {
    "swiss_roll": _ROLL,
    "swiss_roll_wide": replace(_ROLL, title="Swiss roll, 256 units"),
    "heartbeat": Experiment(
        title="Binary heartbeat",
        data="heartbeat",
        notebook="02_heartbeat",
        model=HeartbeatModel,
        params=params.HeartbeatParams,
        evaluation="evaluate_heartbeat",
        unit="bits per sequence",
        paper=paper.TABLE_1["heartbeat"],
        quick={"n_steps": 200, "train_steps": 600},
        quick_evaluation={"n_heldout": 200, "n_samples": 500},
    ),
    "mnist_dense": _MNIST,
    "mnist_dense_1x1": replace(
        _MNIST, title="MNIST, one dense network for every t, wider 1×1 layers", parts=("window",)
    ),
    "mnist_conv": replace(
        _MNIST,
        title="MNIST, convolutional variant, two minutes of training on a GPU",
        params=params.PaperNetworkParams,
        parts=("shown",),
        quick=_QUICK_DIGITS | {"conv_layers": 4, "conv_channels": 16, "pixel_units": 24},
    ),
    "mnist_unet": replace(
        _MNIST,
        title="MNIST, a U-Net, two minutes of training on a GPU",
        params=params.UNetParams,
        parts=("shown",),
        replication=False,
        quick=_QUICK_DIGITS | _QUICK_UNET,
    ),
    "cifar10": _CIFAR10,
    "cifar10_wide": replace(
        _CIFAR10,
        title="CIFAR-10, the paper's kind of network, wider and deeper, two minutes of training on a GPU",
        evaluation="evaluate_cifar10_wide",
        parts=("shown",),
    ),
    "cifar10_unet": _CIFAR10_UNET,
    "cifar10_unet_large": replace(
        _CIFAR10_UNET,
        title="CIFAR-10, a larger U-Net, five minutes of training on a GPU",
        evaluation="evaluate_cifar10_unet_large",
        parts=("shown",),
    ),
    "dead_leaves": _LEAVES,
    "dead_leaves_unet": replace(
        _LEAVES,
        title="Dead leaves, a U-Net, three minutes of training on a GPU",
        params=params.LeavesUNetParams,
        replication=False,
        quick={
            name: value
            for name, value in _QUICK_LEAVES.items()
            if name not in ("conv_channels", "scales", "pixel_units")
        }
        | _QUICK_UNET,
    ),
    "bark": Experiment(
        title="Bark",
        data="bark",
        notebook="06_bark",
        model=TextureModel,
        params=params.TextureParams,
        evaluation="evaluate_bark",
        unit="bits per pixel",
        paper=paper.TABLE_1["bark"],
        quick=_QUICK_TEXTURES
        | {"n_steps": 60, "train_steps": 150, "conv_channels": 12, "scales": 3, "pixel_units": 24},
        measured_by="bark",
        quick_evaluation={
            "n_heldout": 2,
            "draws": 8,
            "n_shown": 1,
            "hole": 48,
            "samples": 2,
            "thin_steps": 10,
        },
    ),
}
# What is no training: how experiments are measured and compared.
SETTINGS = {
    "evaluate_swiss_roll": evaluation.PointsEvaluation,
    "evaluate_heartbeat": evaluation.HeartbeatEvaluation,
    "evaluate_mnist": evaluation.ImageEvaluation,
    "evaluate_cifar10": evaluation.ImageEvaluation,
    "evaluate_cifar10_wide": evaluation.ImageEvaluation,
    "evaluate_cifar10_unet": evaluation.ImageEvaluation,
    "evaluate_cifar10_unet_large": evaluation.ImageEvaluation,
    "evaluate_dead_leaves": evaluation.LeavesEvaluation,
    "evaluate_bark": evaluation.TextureEvaluation,
    "mnist_dense_choices": evaluation.ChoicesParams,
    "cifar10_choices": evaluation.ChoicesParams,
    "cifar10_unet_choices": evaluation.ChoicesParams,
    "mcgsm": evaluation.MCGSMParams,
    "seeds": evaluation.SeedsParams,
}
SECTIONS = {name: its.params for name, its in EXPERIMENTS.items()} | SETTINGS
