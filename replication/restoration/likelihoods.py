"""The average (9) on images: what n trajectories add to K, image by image.

A trajectory costs a call of the network a step, so that a thinned chain is measured. It is a model
of its own with a K of its own, and what n trajectories add is added to that. log p(x^0) of an image
is a sum over thousands of values, the terms of (9) differ by tens of nats, and their average is
about the largest of them. So the gain says more of how far the average is from having converged
than of how far K is from log p(x^0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nonequilibrium.bound.bound import bits, full_bound
from nonequilibrium.bound.theory import effective_sample_size, estimates, log_ratios
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.chain import Kernel, Normal, Reverse
from nonequilibrium.model.images import ImageModel
from replication.measure.metrics import seeded

RESAMPLES = 1000  # of the bootstrap over images
BLOCK = 64  # trajectories at a time


def image_log_ratios(
    kernel: Kernel[Normal],
    reverse: Reverse[Normal],
    x0: Tensor,
    trajectories: int,
    generator: torch.Generator,
) -> Tensor:
    """``trajectories.log_ratios`` of images x0 (n, c, h, w) by a reverse that takes (n, c, h, w)
    alone: (trajectories, n) nats.
    """

    def one_axis(xt: Tensor, t: Tensor | int) -> Normal:
        p = reverse(xt.flatten(0, 1), t)
        return Normal(
            p.mean.unflatten(0, xt.shape[:2]), p.var.expand_as(p.mean).unflatten(0, xt.shape[:2])
        )

    # Without gradients in the block the networks' low-precision copies of their weights live from
    # step to step.
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=False):
        parts = [
            torch.cat(
                [
                    log_ratios(kernel, one_axis, image[None], len(some), generator)
                    for some in torch.arange(trajectories).split(BLOCK)
                ]
            )
            for image in x0
        ]
    return torch.cat(parts, 1)


def averages(log_ratio: Tensor, sizes: Sequence[int], pixels: int, seed: int) -> list[dict]:
    """What averages of n trajectories add to the mean of all: a row for each n of ``sizes``, bits
    per pixel.

    log_ratio: (trajectories, n images) nats. The gain of an image is that of its own trajectories,
    so that how images differ drops out. low and high: 95 % by a bootstrap over images.
    """
    resampled = torch.randint(
        log_ratio.shape[1], (RESAMPLES, log_ratio.shape[1]), generator=seeded(seed)
    )
    rows = []
    for n in sizes:
        gained = bits((estimates(log_ratio, n).mean(0) - log_ratio.mean(0)).double()) / pixels
        low, high = (
            gained[resampled]
            .mean(1)
            .quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
            .tolist()
        )
        se = float(gained.std()) / len(gained) ** 0.5
        rows.append(
            {"trajectories": n, "gain": float(gained.mean()), "se": se, "low": low, "high": high}
        )
    return rows


def likelihoods(
    model: ImageModel, images: ImageSet, n: int, sizes: Sequence[int], steps: int, seed: int
) -> dict:
    """K of the chain thinned to ``steps`` steps on n test images, every step of it measured, and
    the gains of (9) above it.

    {"T", "images", "trajectories", "K", "K_mc_se", "one", "rows", "effective_sample_size",
    "spread"}: bits per pixel. ``one`` is the mean of single trajectories, which has the expectation
    K. ``spread`` is the standard deviation of one trajectory of an image.
    """
    kernel, reverse = model.thinned(min(steps, model.params.n_steps))
    test = images.test[torch.randperm(len(images.test), generator=seeded(seed))[:n]]
    x0, most, pixels = model.scale.dequantise(test, seeded(seed + 1)), max(sizes), model.pixels
    bound = full_bound(kernel, reverse, x0, seeded(seed + 2), replicates=2, block=500)
    log_ratio = image_log_ratios(kernel, reverse, x0, most, seeded(seed + 3))
    return {
        "T": kernel.T,
        "images": len(x0),
        "trajectories": most,
        "K": bits(bound.K) / pixels,
        "K_mc_se": bits(bound.mc_se) / pixels,
        "one": bits(float(log_ratio.double().mean())) / pixels,
        "spread": bits(float(log_ratio.double().std(0).mean())) / pixels if most > 1 else 0.0,
        "rows": averages(log_ratio, sizes, pixels, seed + 4),
        "effective_sample_size": float(effective_sample_size(log_ratio).mean()),
    }
