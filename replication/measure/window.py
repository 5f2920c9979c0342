"""The Parzen window estimate of Table 2: of a model's samples, and of images that say what the
measure rewards.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from nonequilibrium.bound.bound import bits
from nonequilibrium.bound.parzen import centroids, in_unit_interval, parzen
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.sampling import sample, sample_each
from nonequilibrium.network.image import SplitNetwork
from replication.measure.given import Given
from replication.measure.measured import Measured

OURS, CALIBRATION = "diffusion (ours)", "training images (ours)"


def window(given: Given) -> Measured:
    """The estimate of the model's own samples, drawn by the thinned chain:
    numbers["parzen"]["diffusion (ours)"], bits.
    """
    x = sample_each(*given.thin(), given.its.n_samples, given.shape, given.its.seed + 9)
    score = _scores({OURS: _unit(given, x)}, given.images)
    return Measured(
        {"n_samples": given.its.n_samples, "thin_steps": given.thin_steps, "parzen": score}
    )


def calibration(given: Given) -> Measured:
    """The estimate of what is no sample of the model, in numbers["parzen"], bits.

    Training images as samples calibrate it. Those images, noised to the middle of the chain and
    denoised from there, show what the steps below do. Centroids of k-means are no honest sample.
    numbers["noised_to"]: the noise σ_t of each such set.
    """
    images, (kernel, reverse) = given.images, given.thin()
    train = in_unit_interval(images.train, images.levels)
    aside = len(_validation(images))
    n = min(given.its.n_samples, len(train) - aside)
    random = given.seeded(11)
    digits = given.model.scale.dequantise(images.train[:n], random)

    def noised_and_denoised(sigma: float) -> Tensor:
        """The lower part of the chain alone: training images with noise of at most ``sigma``, and
        from there on the chain.
        """
        t = int((kernel.one_minus_alpha_bar <= sigma**2 * kernel.alpha_bar).sum()) - 1
        noised = kernel.sample(kernel.q_marginal(digits, t), random).float()
        parts = noised.split(100)
        ends = [
            sample(kernel, reverse, x.shape, random, dtype=torch.float32, start=(t, x))
            for x in parts
        ]
        return _unit(given, torch.cat(ends))

    levels = (cast(SplitNetwork, given.model.network).split, 1, 4)
    noised_to = {
        f"training images, noised to σ = {sigma:g} and denoised": sigma for sigma in levels
    }
    sets = {CALIBRATION: train[:n]}
    sets |= {name: noised_and_denoised(sigma) for name, sigma in noised_to.items()}
    sets["k-means centroids (no samples)"] = centroids(train[:-aside], n // 10, given.its.seed)
    return Measured({"parzen": _scores(sets, images), "noised_to": noised_to})


def _unit(given: Given, x: Tensor) -> Tensor:
    """x as rows of [0, 1]."""
    return in_unit_interval(given.model.scale.to_pixels(x), given.images.levels)


def _validation(images: ImageSet) -> Tensor:
    """The last training images, on which the width of the window is chosen."""
    return images.train[-1000:] if len(images.train) > 20_000 else images.train[-200:]


def _scores(sets: dict[str, Tensor], images: ImageSet) -> dict[str, dict]:
    """``parzen`` of each set of rows of [0, 1], on all test images: means and errors in bits, the
    width σ as it is.
    """
    validation, test = (
        in_unit_interval(part, images.levels) for part in (_validation(images), images.test)
    )
    scores = {name: parzen(points, validation, test) for name, points in sets.items()}
    return {
        name: {key: value if key == "sigma" else bits(value) for key, value in score.items()}
        for name, score in scores.items()
    }
