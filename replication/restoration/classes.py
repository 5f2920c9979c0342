"""Digits of a wanted class: a model of all digits, with a classifier of noisy digits as r.

That guide is trained on noisy images of one half of the training set. A judge, trained on clean
images of the other half, says which samples are of the wanted class.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import ImageModel
from nonequilibrium.training.classes import NoisyClassifier, class_guide, fit_classifier
from replication.data.images import DIGITS
from replication.measure.measured import Measured
from replication.measure.metrics import seeded

SURE = 0.9  # the judge is sure of a digit that it gives more than this probability


def classifier(kernel, scale, pixels: Tensor, labels: Tensor, steps: int, seed: int, noisy: bool):
    """A classifier of images (n, c, h, w) uint8 with labels (n,), trained on x^t or on x^0."""
    network = NoisyClassifier(tuple(pixels.shape[1:]), DIGITS, seeded(seed))

    def x0(chosen: Tensor, generator: torch.Generator) -> Tensor:
        return scale.dequantise(pixels[chosen], generator)

    fit_classifier(network, kernel, x0, labels, steps, seed, noisy)
    return network.eval().requires_grad_(False)


def judged(judge: Callable[[Tensor], Tensor], x: Tensor, wanted: Tensor) -> dict[str, float]:
    """Shares of x (n, c, h, w): "wanted", judged to be of that class; "sure", judged surely."""
    with torch.no_grad():
        log_p = torch.cat([judge(part) for part in x.split(500)])
    share = float((log_p.argmax(1) == wanted).float().mean())
    sure = float((log_p.exp().max(1).values > SURE).float().mean())
    error = (share * (1 - share) / len(x)) ** 0.5
    return {"wanted": share, "wanted_se": error, "sure": sure, "n": len(x)}


def guided_digits(
    model: ImageModel, images: ImageSet, labels: list[Tensor], sizes: dict, seed: int
) -> Measured:
    """Samples of every class, and the shares of them that the judge assigns to it.

    sizes: each, samples of each class; steps of the thinned chain; train, steps of the guide and of
    the judge; powers of p(y|x^t), of which 1 gives the posterior. numbers["classes"]:
    {"thin_steps", "rows"}. arrays: class_<power> and class_none, uint8, ten rows of one class each.
    """
    kernel, reverse = model.thinned(min(sizes["steps"], model.params.n_steps))
    mixed = torch.randperm(len(images.train), generator=seeded(seed)).tensor_split(2)
    halves = zip(mixed, (labels[0][half] for half in mixed), sizes["train"], strict=True)
    guide, judge = (
        classifier(kernel, model.scale, images.train[half], y, steps, seed + k, noisy=k == 0)
        for k, (half, y, steps) in enumerate(halves)
    )
    shape, wanted = tuple(images.test.shape[1:]), torch.arange(DIGITS)
    wanted, arrays, rows = wanted.repeat_interleave(sizes["each"]), {}, []
    ways: dict[str, tuple] = {
        f"class_{power:g}": ("guided, p(y|x^t)" + (f"^{power:g}" if power != 1 else ""), power)
        for power in sizes["powers"]
    }
    for array, (name, power) in (ways | {"class_none": ("not guided", None)}).items():

        def factor(part: Tensor, _, power=power):
            return class_guide(guide, kernel, wanted[part], power)

        r = None if power is None else factor
        x = sample_each(kernel, reverse, len(wanted), shape, seed + 3, r)
        arrays[array] = model.scale.to_pixels(x)
        rows.append({"samples": name} | judged(lambda part: judge(kernel, part, 0), x, wanted))
    test = model.scale.dequantise(images.test[:2000], seeded(seed + 2))
    shares = judged(lambda part: judge(kernel, part, 0), test, labels[1][: len(test)])
    rows.append({"samples": "test images"} | shares)
    return Measured({"classes": {"thin_steps": kernel.T, "rows": rows}}, {}, arrays)
