"""The average (9) on images: what n trajectories add to K, image by image.

A trajectory costs a call of the network per step, so a thinned chain is measured, which is a model
with its own K. Terms of (9) differ by tens of nats, and their average is about the largest of them:
a gain says more about how far the average is from having converged than about log p(x^0) less K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.bound.bound import bits, full_bound
from nonequilibrium.bound.theory import effective_sample_size, estimates, log_ratios
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.chain import Kernel, Normal, Reverse
from nonequilibrium.model.images import ImageModel
from replication.measure.metrics import seeded

RESAMPLES = 1000  # of the bootstrap over examples
BLOCK = 64  # trajectories at a time


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of ``values`` (n,)."""
    return float(values.std()) / len(values) ** 0.5


def bootstrapped(name: str, values: Tensor, seed: int) -> dict[str, float]:
    """{name: mean of ``values`` (n,), "se", "low", "high"}; the last two are a bootstrap's 95 %."""
    n, ends = len(values), torch.tensor([0.025, 0.975], dtype=torch.float64)
    resampled = torch.randint(n, (RESAMPLES, n), generator=seeded(seed))
    low, high = values[resampled].mean(1).quantile(ends).tolist()
    return {name: float(values.mean()), "se": standard_error(values), "low": low, "high": high}


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
    """K of the chain thinned to ``steps`` steps on n test images, and the gains of (9) above it.

    Bits per pixel. "one": the mean of single trajectories, whose expectation is K. "spread": the
    standard deviation of one trajectory of an image.
    """
    kernel, reverse = model.thinned(min(steps, model.params.n_steps))
    test = images.test[torch.randperm(len(images.test), generator=seeded(seed))[:n]]
    x0, most, pixels = model.scale.dequantise(test, seeded(seed + 1)), max(sizes), model.pixels
    bound = full_bound(kernel, reverse, x0, seeded(seed + 2), replicates=2, block=500)
    log_ratio = image_log_ratios(kernel, reverse, x0, most, seeded(seed + 3))
    one = log_ratio.double()
    return {
        "T": kernel.T,
        "images": len(x0),
        "trajectories": most,
        "K": bits(bound.K) / pixels,
        "K_mc_se": bits(bound.mc_se) / pixels,
        "one": bits(float(one.mean())) / pixels,
        "spread": bits(float(one.std(0).mean())) / pixels if most > 1 else 0.0,
        "rows": averages(log_ratio, sizes, pixels, seed + 4),
        "effective_sample_size": float(effective_sample_size(log_ratio).mean()),
    }
