"""Digits of a wanted class: a model of all digits, with a classifier of noisy digits as r.

A judge, trained on clean images of the other half of the training set, says which samples are.
"""

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

SURE = 0.9  # the probability from which on the judge is sure of a digit


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
    the judge; powers of p(y|x^t), of which 1 gives the posterior. arrays: class_<power> and
    class_none, uint8, ten rows of one class each.
    """
    kernel, reverse = model.thinned(min(sizes["steps"], model.params.n_steps))
    mixed = torch.randperm(len(images.train), generator=seeded(seed)).tensor_split(2)
    halves = zip(mixed, (labels[0][half] for half in mixed), sizes["train"], strict=True)
    guide, judge = (
        classifier(kernel, model.scale, images.train[half], y, steps, seed + k, noisy=k == 0)
        for k, (half, y, steps) in enumerate(halves)
    )
    wanted = torch.arange(DIGITS).repeat_interleave(sizes["each"])
    shape, arrays, rows = tuple(images.test.shape[1:]), {}, []

    def row(name: str, x: Tensor, wanted: Tensor) -> dict:
        return {"samples": name} | judged(lambda part: judge(kernel, part, 0), x, wanted)

    for power in (*sizes["powers"], 0):  # 0: not guided

        def factor(part: Tensor, _, power=power):
            return class_guide(guide, kernel, wanted[part], power)

        x = sample_each(kernel, reverse, len(wanted), shape, seed + 3, factor if power else None)
        arrays[f"class_{power:g}" if power else "class_none"] = model.scale.to_pixels(x)
        name = f"guided, p(y|x^t)^{power:g}".removesuffix("^1") if power else "not guided"
        rows.append(row(name, x, wanted))
    test = model.scale.dequantise(images.test[:2000], seeded(seed + 2))
    rows.append(row("test images", test, labels[1][: len(test)]))
    return Measured({"classes": {"thin_steps": kernel.T, "rows": rows}}, {}, arrays)
