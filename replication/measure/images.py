"""How a model of images of one size is measured: K, Parzen windows (Table 2), a two-sample test,
posteriors (2.5).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from nonequilibrium.bound.bound import L_null, bits, block_se, mean_se, sampled_bound
from nonequilibrium.bound.parzen import in_unit_interval, parzen
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.chain import Normal, Reverse
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.posterior import Denoise, Inpaint
from nonequilibrium.diffusion.sampling import sample, sample_each
from nonequilibrium.model.images import ImageModel
from replication.data.images import load_images
from replication.measure import baselines
from replication.measure.measured import Measured
from replication.measure.metrics import by_time_step, image_metrics, seeded
from replication.restoration.inpaint import left
from replication.restoration.observations import DENOISING
from replication.restoration.ways import drawn
from replication.settings.params import ImageEvaluation
from replication.settings.registry import EXPERIMENTS

OURS, CALIBRATION = "diffusion (ours)", "training images (ours)"
CENTROIDS = "k-means centroids (no samples)"


def evaluate(experiment: str, model: ImageModel, settings: ImageEvaluation) -> Measured:
    """K of test images by the sampled sum over t, its errors, and the parts of the register.

    numbers: in bits per pixel. tables: K_by_time_step, the mean of KL_t. arrays: K_per_example, by
    which two models are compared image by image, in the order of the test file.
    """
    images = load_images(model.params.data)
    heldout = model.scale.dequantise(images.test[: settings.n_heldout], seeded(settings.seed))
    with torch.no_grad():
        kernel = model.kernel()
    chain, random = (kernel, model.reverse(kernel)), seeded(settings.seed + 2)
    bound = sampled_bound(*chain, heldout, random, settings.draws, model.proposal(), block=100)
    null = float(torch.cat([L_null(kernel, part) for part in heldout.split(1000)]).mean())
    result = Measured(
        image_metrics(experiment, model, bound, null, settings.seed, draws=settings.draws),
        by_time_step(K=bits(bound.kl.mean(0)) / model.pixels),
        {"K_per_example": (bits(bound.per_example) / model.pixels).float()},
    )
    del bound  # n (T + 1) numbers that the parts do without
    given = Given(experiment, model, chain, images, settings)
    for name in EXPERIMENTS[experiment].parts:
        result.add(PARTS[name](given))
    return result


@dataclass(frozen=True)
class Given:
    """The context of a part: a trained image model, its data set, and how it is measured."""

    experiment: str
    model: ImageModel
    chain: tuple[GaussianKernel, Reverse[Normal]]
    images: ImageSet
    settings: ImageEvaluation

    def seeded(self, offset: int) -> torch.Generator:
        """The generator of one quantity, with the seed of the settings plus ``offset``."""
        return seeded(self.settings.seed + offset)

    def noisy(self, images: Tensor, offset: int) -> Tensor:
        """x of uint8 images, with the noise of one grey level drawn from ``offset``."""
        return self.model.scale.dequantise(images, self.seeded(offset))


def histograms(given: Given) -> Measured:
    """Bits per dimension of test images under tables of counts, without a network."""
    rows = {}
    for name, costs in baselines.histograms(given.images, _aside(given.images)).items():
        mean, error = mean_se(costs)
        rows[name] = {"bits_per_dim": mean, "se": error, "se_blocks": block_se(costs)}
    return Measured({"histograms": rows})


def shown(given: Given) -> Measured:
    """True samples by all T steps, none chosen: array ``shown``."""
    sizes = EXPERIMENTS[given.experiment].shown
    n, seed = min(given.settings.n_shown, sizes["most"]), given.settings.seed + sizes["offset"]
    x = sample_each(*given.chain, n, given.model.network.shape, seed)
    return Measured({}, {}, {"shown": given.model.scale.to_pixels(x)})


def window(given: Given) -> Measured:
    """Samples by the thinned chain: Parzen window estimate in bits, and a two-sample test."""
    model, settings, n = given.model, given.settings, given.settings.n_samples
    steps = min(settings.thin_steps, model.params.n_steps)
    x = sample_each(*model.thinned(steps), n, model.network.shape, settings.seed + 9)
    points = in_unit_interval(model.scale.to_pixels(x), given.images.levels)
    scores = {"parzen": _parzen(OURS, points, given.images)}
    scores |= {"two_sample": _told_apart(OURS, points, given.images)}
    return Measured({"n_samples": n, "thin_steps": steps} | scores)


def calibration(given: Given) -> Measured:
    """The same of training images; the window of k-means centroids, which are no samples."""
    images, settings = given.images, given.settings
    counted = in_unit_interval(images.train[: -_aside(images)], images.levels)
    n = min(settings.n_samples, len(counted))
    options = {"init": "random", "n_init": 1, "max_iter": 5, "random_state": settings.seed}
    means = MiniBatchKMeans(n // 10, batch_size=5 * (n // 10), **options).fit(counted.numpy())
    centroids = torch.from_numpy(means.cluster_centers_).float()
    scores = _parzen(CALIBRATION, counted[:n], images) | _parzen(CENTROIDS, centroids, images)
    return Measured({"parzen": scores, "two_sample": _told_apart(CALIBRATION, counted[:n], images)})


def _aside(images: ImageSet) -> int:
    """How many training images, the last ones, are set aside to choose what baselines need."""
    return 1000 if len(images.train) > 20_000 else 200


def _parzen(name: str, points: Tensor, images: ImageSet) -> dict[str, dict]:
    """{name: ``parzen`` of the rows ``points`` on all test images}, in bits; σ in [0, 1]."""
    parts = images.train[-_aside(images) :], images.test
    score = parzen(points, *(in_unit_interval(part, images.levels) for part in parts))
    return {name: {key: x if key == "sigma" else bits(x) for key, x in score.items()}}


def _told_apart(name: str, points: Tensor, images: ImageSet) -> dict[str, dict]:
    """{name: accuracy and its error} of a network that has seen half of the rows ``points`` and of
    as many test images, on the other halves (Lopez-Paz & Oquab 2017): 1/2 if nothing differs.
    """
    n = min(len(points), len(images.test))
    rows = torch.cat([in_unit_interval(images.test[:n], images.levels), points[:n]]).numpy()
    real = np.repeat([True, False], n)
    x, x_new, y, y_new = train_test_split(rows, real, test_size=0.5, random_state=0, stratify=real)
    network = MLPClassifier(256, early_stopping=True, random_state=0).fit(x, y)
    accuracy = float(network.score(x_new, y_new))
    return {name: {"accuracy": accuracy, "se": (accuracy * (1 - accuracy) / n) ** 0.5}}


def halves(given: Given) -> Measured:
    """Ten digits: the right half filled in from the left, and noise at SNR 1 taken away."""
    truth, known = given.noisy(given.images.test[:10], 6), left(*given.model.network.shape[1:])
    noisy = DENOISING.seen(truth, given.seeded(7))

    def posterior(r, number: int) -> Tensor:
        draws, options = given.seeded(8 + number), {"r": r, "dtype": torch.float32}
        return sample(*given.chain, truth.shape, draws, **options)

    strips = {
        "held-out": truth,
        "known left half": torch.where(known, truth, truth.min()),
        "filled right half, sample 1": posterior(Inpaint(truth, known), 0),
        "filled right half, sample 2": posterior(Inpaint(truth, known), 1),
        "filled right half, replacement": posterior(Inpaint(truth, known, annealed=True), 2),
        "SNR 1": noisy,
        "denoised": posterior(Denoise(noisy, 1.0), 3),
        "denoised, annealed": posterior(Denoise(noisy, 1.0, annealed=True), 4),
    }
    error = [float((x - truth).square().mean()) for x in strips.values()]
    pictures = torch.stack([given.model.scale.to_pixels(x) for x in strips.values()])
    table = pd.DataFrame({"strip": list(strips), "mean_square": error})
    return Measured({}, {"halves": table}, {"halves": pictures})


def figure_3(given: Given) -> Measured:
    """The paper's figure 3 (a) to (c): test images, noise at SNR 1, posterior samples."""
    test, to_pixels = given.images.test, given.model.scale.to_pixels
    test = test[torch.randperm(len(test), generator=given.seeded(0))][:10]  # the file is ordered
    truth, seeds = given.noisy(test, 6), [given.settings.seed + 8]
    noisy = DENOISING.seen(truth, given.seeded(7))
    denoised = drawn(given.chain, noisy, seeds, lambda part: Denoise(noisy[part], 1.0))[0]
    x = {"noisy": noisy, "posterior": denoised}
    error = {f"{name}_mean_square": float((x[name] - truth).square().mean()) for name in x}
    pictures = torch.stack([test, to_pixels(noisy), to_pixels(denoised)])
    return Measured({"figure_3": error}, {}, {"figure_3": pictures})


_PARTS = [histograms, shown, window, calibration, halves, figure_3]
PARTS = {part.__name__: part for part in _PARTS}  # by the names of the register
