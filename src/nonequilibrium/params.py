"""Hyperparameters of each experiment: names, types and ranges, checked before any work starts.

The values live in ``params.yaml``; nothing is hidden in code. A wrong name or value gets one sentence that says which,
what it was and what is allowed, whether it came from the file, the command line or a notebook.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from nonequilibrium.fields import ParameterError, check_name, checked, flag, number, one_of, whole
from nonequilibrium.fields import overrides as overrides
from nonequilibrium.files import ROOT
from nonequilibrium.values import read_yaml, shown


def schedule_conflict(beta_1: float, alpha_bar_T: float) -> str | None:
    """What is wrong with a schedule from ᾱ_1 = 1 − beta_1 down to ``alpha_bar_T``, if it has no way to go; else None."""
    if 1 - beta_1 > alpha_bar_T * (1 + 1e-9):  # less, and a rate of some step is zero in float64
        return None
    return f"beta_1 = {beta_1:g} leaves no more signal than alpha_bar_T = {alpha_bar_T:g}; one of them must be smaller"


@dataclass(frozen=True)
class SwissRollParams:
    """Swiss roll (section 3.1.1 and D.1.1). Lengths in coordinates of unit variance."""

    noise: float = number(1e-5, 0.5)  # σ of the roll; for less, the optimum would take hours
    n_steps: int = whole(2, 1000)  # T
    beta_1: float = number(1e-12, 0.1)  # fixed; caps K
    alpha_bar_T: float = number(1e-8, 0.9)  # of the schedule at the start
    learn_beta: bool = flag()
    units: int = whole(1, 4096)  # radial basis functions
    width: float = number(1e-3, 100)  # their width at the start
    starts: int = whole(1, 1000)  # short trainings of which the best goes on
    start_steps: int = whole(1, 10_000_000)  # training steps of each
    train_steps: int = whole(1, 10_000_000)
    batch: int = whole(1, 1_000_000)  # points a step; every point is used at every t
    learning_rate: float = number(1e-8, 1)
    beta_learning_rate: float = number(0, 1)  # of logit β_t
    seed: int = whole(0, 2**31 - 1)

    def conflict(self) -> str | None:
        """What no value alone is at fault for."""
        return schedule_conflict(self.beta_1, self.alpha_bar_T)


@dataclass(frozen=True)
class HeartbeatParams:
    """Binary heartbeat (section 3.1.2 and D.1.2)."""

    n_steps: int = whole(2, 100_000)  # T
    pi: float = number(1e-3, 0.999)  # rate of ones in π
    hidden: int = whole(20, 4096)  # sigmoid units a layer
    layers: int = whole(1, 10)
    knots: int = whole(2, 1000)  # of the part of the readouts that neighbouring t share while training
    train_steps: int = whole(1, 10_000_000)
    batch_t: int = whole(1, 100_000)  # steps t in a training step, stratified over 2..T
    batch: int = whole(1, 100_000)  # sequences for each of them
    small_t: float = number(0, 0.99)  # part of the draws of t in proportion to 1/t, the rest uniform
    learning_rate: float = number(1e-8, 1)
    seed: int = whole(0, 2**31 - 1)


@dataclass(frozen=True)
class ImageParams:
    """An image experiment (section 3.2), whatever its network."""

    data: str = one_of("mnist", "cifar10", "digits", "photographs")
    n_steps: int = whole(2, 10_000)  # T
    schedule: str = one_of("even_log_snr", "reference", "learned")
    beta_1: float = number(1e-12, 0.1)  # caps K
    alpha_bar_T: float = number(1e-8, 0.9)
    mean: str = one_of("paper", "reference", "posterior", "velocity")  # how z^μ and z^Σ give μ and Σ
    precision: str = one_of("float32", "bfloat16")  # of the dense layers and the convolutions after the first
    flip: bool = flag()  # train on mirror images too
    train_steps: int = whole(1, 100_000_000)
    batch: int = whole(1, 1_000_000)  # images a training step, one t each
    optimiser: str = one_of("adam", "rmsprop", "soap")
    learning_rate: float = number(1e-8, 1)
    ema: float = number(0, 0.999999)  # decay of the average of the weights that is kept
    seed: int = whole(0, 2**31 - 1)

    def conflict(self) -> str | None:
        """What no value alone is at fault for."""
        return None if self.schedule == "reference" else schedule_conflict(self.beta_1, self.alpha_bar_T)


@dataclass(frozen=True)
class PaperNetworkParams(ImageParams):
    """The paper's network for images (D.2)."""

    bumps: int = whole(1, 1000)  # J
    conv_layers: int = whole(0, 100)
    conv_channels: int = whole(1, 4096)
    scales: int = whole(1, 8)  # of a multi-scale convolution
    activation: str = one_of("softplus", "leaky_relu", "tanh")
    dense_layers: int = whole(0, 20)  # 0: no dense path
    dense_units: int = whole(1, 100_000)
    dense_channels: int = whole(1, 1000)  # values a pixel that the dense path hands on
    dense_learning_rate: float = number(1e-8, 1)  # of the dense path, whose layers are wide
    pixel_layers: int = whole(0, 20)  # 1×1 layers
    pixel_units: int = whole(1, 4096)


@dataclass(frozen=True)
class SplitNetworkParams(PaperNetworkParams):
    """Two of the paper's networks, for small and for large noise."""

    split: float = number(0, 1e6)  # noise σ_t = √((1−ᾱ_t)/ᾱ_t) above which the second takes over; 0: only one
    dense_layers_above: int = whole(0, 20)  # of the second network, which is like the first but for this
    pixel_layers_above: int = whole(0, 20)  # and this
    emphasis: float = number(0, 2)  # of large noise in training, where KL_t counts ᾱ_t^−emphasis times; 0: K itself


@dataclass(frozen=True)
class UNetParams(ImageParams):
    """A small U-Net, which later papers use."""

    channels: int = whole(1, 4096)  # at full resolution
    levels: int = whole(1, 6)  # resolutions
    blocks: int = whole(1, 10)  # residual blocks at each of them on the way down


@dataclass(frozen=True)
class SwissRollEvaluation:
    """How the swiss roll is measured."""

    n_heldout: int = whole(2, 10_000_000)  # points for K
    n_optimum: int = whole(2, 1_000_000)  # points for K*, the gap and the curve of K* against β_1
    n_samples: int = whole(2, 1_000_000)  # points in figure 1
    seed: int = whole(0, 2**31 - 1)


@dataclass(frozen=True)
class HeartbeatEvaluation:
    """How the heartbeat is measured."""

    n_heldout: int = whole(2, 10_000_000)  # sequences for K
    n_samples: int = whole(10, 10_000_000)  # true samples for validity and offsets
    seed: int = whole(0, 2**31 - 1)


@dataclass(frozen=True)
class ImageEvaluation:
    """How an image experiment is measured."""

    n_heldout: int = whole(2, 1_000_000)  # test images for K
    draws: int = whole(1, 1000)  # steps t an image, in each of two replicates
    n_samples: int = whole(100, 1_000_000)  # samples for the Parzen window
    sample_steps: int = whole(2, 10_000)  # of the chain they are drawn by, T thinned; the figure has all of T
    seed: int = whole(0, 2**31 - 1)


@dataclass(frozen=True)
class PosteriorEvaluation:
    """How an image experiment and its posteriors are measured."""

    n_heldout: int = whole(2, 1_000_000)  # test images for K
    draws: int = whole(1, 1000)  # steps t an image, in each of two replicates
    n_posterior: int = whole(2, 100_000)  # test images for PSNR and SSIM
    posterior_samples: int = whole(1, 1000)  # of each of them
    posterior_steps: int = whole(2, 10_000)  # of the chain they are drawn by, T thinned; figures have all of T
    seed: int = whole(0, 2**31 - 1)


@dataclass(frozen=True)
class ModernEvaluation:
    """How a modern network is measured beside the paper's."""

    n_heldout: int = whole(2, 1_000_000)  # test images for K
    draws: int = whole(1, 1000)  # steps t an image, in each of two replicates
    n_samples: int = whole(1, 1000)  # true samples of each network
    seed: int = whole(0, 2**31 - 1)


@dataclass(frozen=True)
class ChoicesParams:
    """How long each variant of an image experiment is trained to see what a choice is worth."""

    train_steps: int = whole(10, 10_000_000)


@dataclass(frozen=True)
class SeedsParams:
    """How often each toy is trained from another seed."""

    count: int = whole(2, 100)


EXPERIMENTS = {
    "swiss_roll": SwissRollParams,
    "swiss_roll_wide": SwissRollParams,
    "heartbeat": HeartbeatParams,
    "mnist": SplitNetworkParams,
    "mnist_sharp": SplitNetworkParams,
    "mnist_conv": PaperNetworkParams,
    "cifar10_cpu": PaperNetworkParams,
    "cifar10_modern": UNetParams,
}
EVALUATIONS = {
    "evaluate_swiss_roll": SwissRollEvaluation,
    "evaluate_heartbeat": HeartbeatEvaluation,
    "evaluate_mnist": ImageEvaluation,
    "mnist_choices": ChoicesParams,
    "evaluate_cifar10": PosteriorEvaluation,
    "evaluate_cifar10_modern": ModernEvaluation,
    "cifar10_cpu_choices": ChoicesParams,
    "seeds": SeedsParams,
}
SECTIONS = EXPERIMENTS | EVALUATIONS


def check(section: str, values: dict):
    """The parameters of ``section`` from a mapping of all its names to values; raises ParameterError."""
    check_name("section", section, SECTIONS)
    return checked(SECTIONS[section], section, values)


def load(section: str, overrides: dict | None = None, path: Path | None = None):
    """Parameters of ``section`` from params.yaml, with ``overrides`` on top; raises ParameterError."""
    check_name("section", section, SECTIONS)
    path = path or ROOT / "params.yaml"
    if not isinstance(overrides or {}, dict):
        raise ParameterError(f"overrides are {shown(overrides)}; they must be names with values, as in {{seed: 1}}")
    try:
        sections = read_yaml(path.read_bytes())
    except FileNotFoundError:
        raise ParameterError(f"there is no {path.name} in {path.parent}") from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ParameterError(f"{path.name} {error}") from None
    if not isinstance(sections, dict) or not isinstance(sections.get(section), dict):
        raise ParameterError(f"{path.name} has no section {section!r}")
    return check(section, {**sections[section], **(overrides or {})})


def quick(params):
    """The same experiment cut down to seconds of training: fewer steps, for the heartbeat smaller T, for images other data.

    Images come from a dependency in place of a download: scikit-learn's digits for MNIST, patches of its photographs for CIFAR-10.
    """
    if isinstance(params, ImageParams):
        data = {"mnist": "digits", "cifar10": "photographs"}.get(params.data, params.data)
        changes = {"n_steps": 100, "ema": 0.98, "batch": 64, "train_steps": 600, "beta_1": 1e-3}
        if data == "photographs":
            steps = 120 if isinstance(params, UNetParams) else 250  # its steps are slower, and it needs fewer
            changes |= {"beta_1": 1e-4, "batch": 32, "train_steps": steps}
            small = {"conv_channels": 12, "scales": 3, "pixel_units": 24, "channels": 16, "levels": 2, "blocks": 1}
        else:
            small = {"dense_units": 256}
        changes |= {name: value for name, value in small.items() if hasattr(params, name)}
        return dataclasses.replace(params, data=data, **changes)
    if isinstance(params, HeartbeatParams):
        return dataclasses.replace(params, n_steps=min(params.n_steps, 200), train_steps=min(params.train_steps, 600))
    return dataclasses.replace(params, starts=1, train_steps=min(params.train_steps, 2500))
