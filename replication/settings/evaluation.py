"""How things are measured: the other sections of ``params.yaml``, with names, types, ranges and
defaults.
"""

from __future__ import annotations

from replication.settings.fields import SEED, Settings, number, whole


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
