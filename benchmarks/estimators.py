"""How much work one uniform t an image needs for the error of our estimator of K: the ratio of
variance × time.

Both take one step t an image. Ours draws t in proportion to the root mean square of KL_t that
training saw, stratified over images. The variance of either is that of K of these images over
repeats; the images themselves are the same.
"""

from __future__ import annotations

import torch

from benchmarks.steps import trained
from benchmarks.timing import Settings, in_turn
from nonequilibrium.bound.bound import bits, sampled_bound
from replication.data.textures import training_data

MODELS = {
    "cifar10": 100,
    "cifar10_unet": 50,
    "mnist_conv": 100,
    "mnist_dense": 200,
    "dead_leaves": 4,
}  # images at once
REPLICATES = 60  # of a variance, whose standard error is then 18 % of it


def test_images(model, n: int) -> torch.Tensor:
    """x^0 of the first n held-out images."""
    images = training_data(model.params).test[:n]
    stacked = torch.stack(list(images)) if isinstance(images, list) else images
    return model.x0(stacked, torch.Generator().manual_seed(0))


@torch.no_grad()
def of(experiment: str, its: Settings) -> dict:
    model, n = trained(experiment), MODELS[experiment]
    kernel = model.kernel()
    reverse, pixels = model.reverse(kernel), test_images(model, 2)[0, 0].numel()
    x0 = test_images(model, n)
    replicates = 6 if its.small else REPLICATES if experiment != "cifar10_unet" else REPLICATES // 3
    ways = {
        "one uniform t": {"proposal": None, "stratified": False},
        "ours": {"proposal": model.proposal(), "stratified": True},
    }

    def estimate(number: int, seed: int, **options):
        return sampled_bound(
            kernel,
            reverse,
            x0,
            torch.Generator().manual_seed(seed),
            1,
            replicates=number,
            block=n,
            **options,
        )

    times = in_turn(
        {name: lambda o=options: estimate(1, 0, **o) for name, options in ways.items()},
        its,
        2 if its.small else 5,
    )
    found = {}
    for name, options in ways.items():
        bound = estimate(replicates, 1, **options)
        # Independent draws: each image's own variance says it best. Stratified ones are not
        # independent between images.
        own, joint = bound.replicates.var(0).mean() / n, bound.replicates.mean(1).var()
        variance = float(own if name == "one uniform t" else joint)
        error = bits(variance**0.5) / pixels
        found[name] = {
            "mc_sd": error,
            "variance": variance,
            "K": bits(bound.K) / pixels,
            **times[name],
        }
    ratio = (
        found["one uniform t"]["variance"]
        / found["ours"]["variance"]
        / times["ours"]["ratio"]["median"]
    )
    return {
        "ways": found,
        "ratio": ratio,
        "ratio_se": ratio * (2 / (replicates - 1)) ** 0.5,
        "images": n,
    }


def measured(its: Settings) -> dict:
    return {name: of(name, its) for name in (["cifar10", "dead_leaves"] if its.small else MODELS)}
