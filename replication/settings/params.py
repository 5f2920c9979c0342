"""The sections of ``params.yaml``: names, types, ranges and defaults.

That file holds only what differs from the defaults. The default of a new parameter must reproduce
the program without it, so that stored weights keep their meaning.
"""

from typing import ClassVar

from replication.settings.fields import SEED, Settings, flag, number, one_of, whole


class PointsEvaluation(Settings):
    """How a law of points is measured."""

    n_heldout: int = whole(2, 10_000_000, 50_000)  # points for K
    n_optimum: int = whole(2, 1_000_000, 2000)  # points for K*, the gap and K* against β_1
    n_samples: int = whole(2, 1_000_000, 4000)  # points in figure 1
    seed: int = whole(0, SEED, 7)


class HeartbeatEvaluation(Settings):
    """How the heartbeat is measured."""

    n_heldout: int = whole(2, 10_000_000, 2000)  # sequences for K
    n_samples: int = whole(10, 10_000_000, 10_000)  # true samples for validity and offsets
    seed: int = whole(0, SEED, 7)


class ImageEvaluation(Settings):
    """How an image experiment is measured; of its parts only those that params.yaml names."""

    n_heldout: int = whole(2, 1_000_000, 10_000)  # test images for K
    draws: int = whole(1, 1000, 3)  # steps t an image, in each of two replicates
    n_shown: int = whole(1, 1000, 40)  # true samples in the figures, by all T steps
    n_samples: int = whole(100, 1_000_000, 10_000)  # samples for the Parzen window
    thin_steps: int = whole(2, 10_000, 100)  # of the thinned chain by which many samples are drawn
    seed: int = whole(0, SEED, 7)


class LeavesEvaluation(Settings):
    """How dead leaves are measured."""

    n_heldout: int = whole(2, 100_000, 100)  # whole test images for K
    draws: int = whole(1, 1000, 10)  # steps t an image, in each of two replicates
    mcgsm_steps: int = whole(0, 1_000_000, 0)  # of a small MCGSM trained here; 0: that in models/
    seed: int = whole(0, SEED, 7)


class MCGSMParams(Settings):
    """The MCGSM beside dead leaves: the first of its sizes, and how it is trained."""

    components: int = whole(1, 1000, 16)  # C
    scales: int = whole(1, 100, 8)  # S
    features: int = whole(1, 10_000, 60)
    doublings: int = whole(0, 10, 3)  # of components and features, at most
    least_gain: float = number(0, 1, 0.01)  # bits/pixel, of a doubling for another to be tried
    steps: int = whole(1, 1_000_000, 5000)  # of training, 4,000 pixels each
    seed: int = whole(0, SEED, 10)


class TextureEvaluation(Settings):
    """How a model of bark, or of pictures of one's own, is measured."""

    n_heldout: int = whole(1, 100_000, 40)  # held-out pictures, or regions of pictures, for K
    draws: int = whole(1, 100_000, 80)  # steps t in each of eight replicates, of all pictures
    n_shown: int = whole(1, 100, 2)  # pictures in figure 5
    hole: int = whole(8, 1000, 100)  # side of the hole in them, pixels
    samples: int = whole(2, 1000, 4)  # posterior samples of each
    thin_steps: int = whole(2, 10_000, 50)  # of the thinned chain for those through the model
    seed: int = whole(0, SEED, 7)


def schedule_conflict(beta_1: float, alpha_bar_T: float) -> str | None:
    """What is wrong with a schedule from ᾱ_1 = 1 − beta_1 down to ``alpha_bar_T``, or None."""
    if 1 - beta_1 > alpha_bar_T * (1 + 1e-9):  # less, and a rate of some step is zero in float64
        return None
    message = f"beta_1 = {beta_1:g} leaves no more signal than alpha_bar_T = {alpha_bar_T:g}"
    return f"{message}; one of them must be smaller"


class PointsParams(Settings):
    """Points such as the swiss roll's (D.1.1). Lengths in coordinates of unit variance."""

    evaluation: ClassVar[type] = PointsEvaluation
    noise: float = number(1e-5, 0.5, 1e-3)  # σ of the law; for less, the optimum would take hours
    n_steps: int = whole(2, 1000, 40)  # T
    beta_1: float = number(1e-12, 0.1, 1e-6)  # fixed; caps K
    alpha_bar_T: float = number(1e-8, 0.9, 0.03)  # of the schedule at the start
    learn_beta: bool = flag(default=True)
    units: int = whole(1, 4096, 16)  # radial basis functions
    width: float = number(1e-3, 100, 1.5)  # their width at the start
    centres: str = one_of("points", "k_means", default="points")  # at the start
    mean: str = one_of("posterior", "paper", default="posterior")  # what f_μ is read out by
    starts: int = whole(1, 1000, 1)  # short trainings of which the best goes on
    start_steps: int = whole(1, 10_000_000, 1500)  # training steps of each
    train_steps: int = whole(1, 10_000_000, 15_000)
    batch: int = whole(1, 1_000_000, 128)  # points a step; every point is used at every t
    learning_rate: float = number(1e-8, 1, 0.02)
    beta_learning_rate: float = number(0, 1, 0.1)  # of logit β_t
    seed: int = whole(0, SEED, 0)

    def conflict(self) -> str | None:
        return schedule_conflict(self.beta_1, self.alpha_bar_T)


class HeartbeatParams(Settings):
    """Binary heartbeat (D.1.2)."""

    evaluation: ClassVar[type] = HeartbeatEvaluation
    n_steps: int = whole(2, 100_000, 2000)  # T
    pi: float = number(1e-3, 0.999, 0.2)  # rate of ones in π
    hidden: int = whole(20, 4096, 50)  # sigmoid units a layer
    layers: int = whole(1, 10, 3)
    knots: int = whole(0, 1000, 32)  # in t, between which readouts share training; 0: no sharing
    mean: str = one_of("posterior", "paper", default="posterior")  # what f_b is read out by
    train_steps: int = whole(1, 10_000_000, 5000)
    batch_t: int = whole(1, 100_000, 250)  # steps t in a training step, stratified over 2..T
    batch: int = whole(1, 100_000, 32)  # sequences for each t
    small_t: float = number(0, 0.99, 0.3)  # share of the draws of t that are in proportion to 1/t
    learning_rate: float = number(1e-8, 1, 0.04)
    seed: int = whole(0, SEED, 0)


class ImageParams(Settings):
    """An image experiment (section 3.2), whatever its network."""

    evaluation: ClassVar[type] = ImageEvaluation
    data: str = one_of("mnist", "cifar10", "digits", "photographs")
    n_steps: int = whole(2, 10_000, 1000)  # T
    schedule: str = one_of("even_log_snr", "reference", "learned", default="even_log_snr")
    beta_1: float = number(1e-12, 0.1, 1e-6)  # caps K
    alpha_bar_T: float = number(1e-8, 0.9, 1e-4)
    mean: str = one_of("paper", "reference", "posterior", "velocity", default="velocity")  # of z^μ
    precision: str = one_of("float32", "bfloat16", default="bfloat16")  # of wide layers in training
    flip: bool = flag(default=False)  # train on mirror images too
    train_steps: int = whole(1, 100_000_000, 10_000)
    batch: int = whole(1, 1_000_000, 32)  # images a training step, one t each
    optimiser: str = one_of("adam", "rmsprop", "soap", "batched_soap", default="soap")
    learning_rate: float = number(1e-8, 1, 6e-3)
    ema: float = number(0, 0.999999, 0.999)  # decay of the average of the weights that is kept
    stored_in: str = one_of("float32", "float16", default="float32")  # weights that may lose digits
    seed: int = whole(0, SEED, 0)

    def conflict(self) -> str | None:
        fixed = self.schedule == "reference"
        return None if fixed else schedule_conflict(self.beta_1, self.alpha_bar_T)


class PaperNetworkParams(ImageParams):
    """The paper's network for images (D.2)."""

    bumps: int = whole(1, 1000, 16)  # J
    conv_layers: int = whole(0, 100, 4)
    conv_channels: int = whole(1, 4096, 32)
    scales: int = whole(1, 8, 3)  # of a multi-scale convolution
    activation: str = one_of("softplus", "leaky_relu", "tanh", default="softplus")
    dense_layers: int = whole(0, 20, 0)  # 0: no dense path
    dense_units: int = whole(1, 100_000, 256)
    dense_channels: int = whole(1, 1000, 4)  # values a pixel that the dense path hands on
    dense_learning_rate: float = number(1e-8, 1, 1e-3)  # of the dense path, whose layers are wide
    pixel_layers: int = whole(0, 20, 1)  # 1×1 layers
    pixel_units: int = whole(1, 4096, 48)
    plain: bool = flag(default=False)  # as the appendix states it, without what we added


class SplitNetworkParams(PaperNetworkParams):
    """Two of the paper's networks, for small and for large noise σ_t = √((1−ᾱ_t)/ᾱ_t)."""

    split: float = number(0, 1e6, 0.0)  # σ_t above which the second takes over; 0: one network
    dense_layers_above: int = whole(0, 20, 0)  # of the second, which differs from the first in this
    pixel_layers_above: int = whole(0, 20, 0)  # and in this
    emphasis: float = number(0, 2, 0.0)  # KL_t is weighted by ᾱ_t^−emphasis; 0: K itself


class UNetParams(ImageParams):
    """A small U-Net, which later papers use."""

    channels: int = whole(1, 4096, 48)  # at full resolution
    levels: int = whole(1, 6, 3)  # resolutions
    blocks: int = whole(1, 10, 1)  # residual blocks per resolution on the way down
    widest: int = whole(1, 64, 4)  # most maps at a resolution, in multiples of channels
    told_t: bool = flag(default=True)  # t is an input
    differences: bool = flag(default=True)  # of neighbouring pixels are inputs
    waves: int = whole(0, 16, 0)  # of the grey level as inputs: periods of 1, 1/2, ... levels
    attention: bool = flag(default=True)  # between all places of the lowest resolution


class TextureParams(PaperNetworkParams):
    """The paper's network without a dense path, trained on patches of pictures of any size."""

    evaluation: ClassVar[type] = TextureEvaluation
    data: str = one_of(default="bark")  # "bark", or a picture or a folder of pictures of one's own
    channels: int = whole(1, 3, 1)  # of a pixel: 1 grey, 3 colour
    patch: int = whole(8, 1024, 64)  # side of a patch, pixels

    def conflict(self) -> str | None:
        if self.dense_layers or not self.conv_layers:
            return "pictures of any size need dense_layers = 0 and at least one of conv_layers"
        if self.channels == 2:
            return "channels must be 1 (grey) or 3 (colour)"
        if self.patch % 2 ** (self.scales - 1):
            return f"patch = {self.patch} cannot be halved scales − 1 = {self.scales - 1} times"
        return super().conflict()


class LeavesLaw(ImageParams):
    """The law of dead leaves, whose greys are uniform on 0..1."""

    evaluation: ClassVar[type] = LeavesEvaluation
    data: str = one_of("dead_leaves", default="dead_leaves")
    patch: int = whole(8, 1024, 64)  # side of a patch to train on, pixels
    noise: float = number(1e-4, 1, 0.02)  # σ of the Gaussian noise of a pixel
    smallest: float = number(0.5, 100, 1.0)  # least radius of a leaf, pixels
    largest: float = number(2, 2000, 256.0)  # largest
    size: int = whole(16, 2048, 256)  # side of an image, pixels
    n_train: int = whole(1, 100_000, 200)  # images
    n_test: int = whole(2, 100_000, 100)

    def conflict(self) -> str | None:
        if self.smallest >= self.largest:
            return f"smallest = {self.smallest:g} must be less than largest = {self.largest:g}"
        if self.patch > self.size:
            return f"patch = {self.patch} is larger than an image, size = {self.size}"
        return super().conflict()


class LeavesParams(LeavesLaw, TextureParams):
    """Dead leaves, and the paper's network that learns them."""


class LeavesUNetParams(LeavesLaw, UNetParams):
    """Dead leaves, and a U-Net that learns them."""
