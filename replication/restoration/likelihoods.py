"""The average (9) on images: what n trajectories add to K, image by image.

A trajectory costs a call of the network per step, so a thinned chain is measured. Terms of (9)
differ by tens of nats, and their average is about the largest of them: a gain says more about how
far the average is from having converged than about log p(x^0) less K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.bound.bound import bits, mean_se
from nonequilibrium.bound.theory import estimates, log_ratios
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.chain import Kernel, Normal, Reverse
from nonequilibrium.model.images import ImageModel
from replication.measure.metrics import seeded

RESAMPLES = 1000  # of the bootstrap over examples
BLOCK = 64  # trajectories at a time


def bootstrapped(name: str, values: Tensor, seed: int) -> dict[str, float]:
    """{name: mean of ``values`` (n,), "se", "low", "high"}; the last two are a bootstrap's 95 %."""
    n, ends = len(values), torch.tensor([0.025, 0.975], dtype=torch.float64)
    resampled = torch.randint(n, (RESAMPLES, n), generator=seeded(seed))
    low, high = values[resampled].mean(1).quantile(ends).tolist()
    mean, error = mean_se(values)
    return {name: mean, "se": error, "low": low, "high": high}


def image_log_ratios(
    kernel: Kernel[Normal], reverse: Reverse[Normal], x0: Tensor, trajectories: int, generator
) -> Tensor:
    """``log_ratios`` of images x0 (n, c, h, w): (trajectories, n) nats."""

    def one_axis(xt: Tensor, t: Tensor | int) -> Normal:
        p = reverse(xt.flatten(0, 1), t)
        return Normal(*(v.expand_as(p.mean).unflatten(0, xt.shape[:2]) for v in p))

    def of_image(image: Tensor) -> Tensor:
        sizes = [len(part) for part in torch.arange(trajectories).split(BLOCK)]
        return torch.cat([log_ratios(kernel, one_axis, image[None], n, generator) for n in sizes])

    # Without gradients in the block the low-precision copies of weights live from step to step.
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=False):
        return torch.cat([of_image(image) for image in x0], 1)


def averages(log_ratio: Tensor, sizes, pixels: int, seed: int) -> list[dict]:
    """What averages of n trajectories, n of ``sizes``, add to the mean of all, bits per pixel.

    log_ratio: (trajectories, n images) nats. Gains are taken image by image.
    """
    rows = []
    for n in sizes:
        gained = bits((estimates(log_ratio, n).mean(0) - log_ratio.mean(0)).double()) / pixels
        rows.append({"trajectories": n} | bootstrapped("gain", gained, seed))
    return rows


def likelihoods(model: ImageModel, images: ImageSet, n: int, sizes, steps: int, seed: int) -> dict:
    """``averages`` of n test images by the chain thinned to ``steps`` steps: {"T", "rows"}."""
    kernel, reverse = model.thinned(min(steps, model.params.n_steps))
    test = images.test[torch.randperm(len(images.test), generator=seeded(seed))[:n]]
    x0 = model.scale.dequantise(test, seeded(seed + 1))
    log_ratio = image_log_ratios(kernel, reverse, x0, max(sizes), seeded(seed + 3))
    return {"T": kernel.T, "rows": averages(log_ratio, sizes, model.pixels, seed + 4)}
