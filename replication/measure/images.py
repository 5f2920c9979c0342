"""How a model of images of one size is measured: K on test images, and the parts of the register.

Among these is the Parzen window estimate of Table 2, of the model's samples and of images that
show what the estimate rewards.
"""

from __future__ import annotations

import pandas as pd
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from nonequilibrium.bound.bound import L_null, bits, block_se, mean_se, sampled_bound
from nonequilibrium.bound.parzen import in_unit_interval, parzen
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import ImageModel
from replication.data.images import load_images
from replication.measure import baselines
from replication.measure.measured import Given, Measured
from replication.measure.metrics import image_metrics, seeded
from replication.restoration import posteriors
from replication.settings.params import ImageEvaluation
from replication.settings.registry import EXPERIMENTS

OURS, CALIBRATION = "diffusion (ours)", "training images (ours)"
CENTROIDS = "k-means centroids (no samples)"


def evaluate(experiment: str, model: ImageModel, settings: ImageEvaluation) -> Measured:
    """K of test images by the sampled sum over t, its errors, and the parts of the register.

    numbers: the contract, in bits per pixel. tables: K_by_time_step, the mean of KL_t. arrays:
    K_per_example, (n,) float32 bits per pixel in the order of the test file, by which two models
    are compared image by image. Pictures are uint8 pixels.
    """
    images = load_images(model.params.data)
    heldout = model.scale.dequantise(images.test[: settings.n_heldout], seeded(settings.seed))
    with torch.no_grad():
        kernel = model.kernel()
    reverse, random = model.reverse(kernel), seeded(settings.seed + 2)
    proposal = model.proposal()
    bound = sampled_bound(kernel, reverse, heldout, random, settings.draws, proposal, block=100)
    null = float(torch.cat([L_null(kernel, part) for part in heldout.split(1000)]).mean())
    kl = bits(bound.kl.mean(0)) / model.pixels
    result = Measured(
        image_metrics(experiment, model, bound, null, settings.seed, draws=settings.draws),
        {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), "K": kl[2:].numpy()})},
        {"K_per_example": (bits(bound.per_example) / model.pixels).float()},
    )
    del bound  # n (T + 1) numbers that the parts do without
    given = Given(experiment, model, kernel, images, settings)
    for name in EXPERIMENTS[experiment].parts:
        result.add(PARTS[name](given))
    return result


def histograms(given: Given) -> Measured:
    """Bits per dimension of test images under tables of counts, without a network."""
    rows = {}
    for name, costs in baselines.histograms(given.images, _aside(given.images)).items():
        mean, error = mean_se(costs)
        rows[name] = {"bits_per_dim": mean, "se": error, "se_blocks": block_se(costs)}
    return Measured({"histograms": rows})


def shown(given: Given) -> Measured:
    """True samples by all T steps, none chosen: array ``shown``."""
    of_shown = EXPERIMENTS[given.experiment].shown
    n, seed = min(given.its.n_shown, of_shown["most"]), given.its.seed + of_shown["offset"]
    x = sample_each(given.kernel, given.reverse, n, given.shape, seed)
    return Measured({}, {}, {"shown": given.model.scale.to_pixels(x)})


def window(given: Given) -> Measured:
    """Parzen window estimate of samples by the thinned chain: numbers["parzen"][OURS], bits."""
    n = given.its.n_samples
    x = sample_each(*given.thin(), n, given.shape, given.its.seed + 9)
    points = in_unit_interval(given.model.scale.to_pixels(x), given.images.levels)
    scores = _parzen(OURS, points, given.images)
    return Measured({"n_samples": n, "thin_steps": given.thin_steps, "parzen": scores})


def calibration(given: Given) -> Measured:
    """The same estimate of images that are no samples of the model, numbers["parzen"], bits.

    Training images calibrate it. Centroids of k-means, which are no samples, are preferred to them.
    """
    images, its = given.images, given.its
    counted = in_unit_interval(images.train[: -_aside(images)], images.levels)
    n = min(its.n_samples, len(counted))
    options = {"init": "random", "n_init": 1, "max_iter": 5, "random_state": its.seed}
    means = MiniBatchKMeans(n // 10, batch_size=5 * (n // 10), **options).fit(counted.numpy())
    centroids = torch.from_numpy(means.cluster_centers_).float()
    scores = _parzen(CALIBRATION, counted[:n], images)
    return Measured({"parzen": scores | _parzen(CENTROIDS, centroids, images)})


def _aside(images: ImageSet) -> int:
    """How many training images, the last ones, are set aside to choose what baselines need."""
    return 1000 if len(images.train) > 20_000 else 200


def _parzen(name: str, points: Tensor, images: ImageSet) -> dict[str, dict]:
    """{name: ``parzen`` of the rows ``points`` on all test images}, in bits; σ in [0, 1]."""
    parts = images.train[-_aside(images) :], images.test
    score = parzen(points, *(in_unit_interval(part, images.levels) for part in parts))
    return {name: {key: x if key == "sigma" else bits(x) for key, x in score.items()}}


_PARTS = [histograms, shown, window, calibration, posteriors.halves, posteriors.figure_3]
PARTS = {part.__name__: part for part in _PARTS}  # by the names of the register
