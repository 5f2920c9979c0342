"""Digits of a wanted class: a model of all digits, with a classifier of noisy digits as r.

That guide is trained on noisy images of one half of the training set. A judge, trained on clean
images of the other half, says which samples are of the wanted class.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.particles import Collapsed, particles
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import ImageModel
from nonequilibrium.network.classifier import NoisyClassifier, class_guide
from nonequilibrium.training.classes import fit_classifier
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


@torch.no_grad()
def accuracies(guide: NoisyClassifier, kernel, x0: Tensor, y: Tensor, generator) -> list[dict]:
    """Rows {"noise": σ_t, "right": how often the guide is right about x^t}, six levels of noise."""
    rows = []
    for t in torch.linspace(0, kernel.T, 6).round().long().tolist():
        xt = kernel.sample(kernel.q_marginal(x0, t), generator)
        right = float((guide(kernel, xt, t).argmax(1) == y).float().mean())
        noise = float((kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]).sqrt())
        rows.append({"noise": noise, "right": right})
    return rows


def guided_digits(
    model: ImageModel, images: ImageSet, labels: tuple[Tensor, Tensor], sizes: dict, seed: int
) -> Measured:
    """Samples of every class, and the shares of them that the judge assigns to it.

    sizes: each, samples of each class; steps of the thinned chain; train, steps of the guide and of
    the judge; powers of p(y|x^t), of which 1 gives the posterior; particles, (samples of each
    class, particles of each sample). numbers["classes"]: {"thin_steps", "guide", "rows"}. arrays:
    class_<power>, class_weighted and class_none, uint8, ten rows of one class each.
    """
    kernel, reverse = model.thinned(min(sizes["steps"], model.params.n_steps))
    mixed = torch.randperm(len(images.train), generator=seeded(seed)).tensor_split(2)
    guide, judge = (
        classifier(
            kernel, model.scale, images.train[half], labels[0][half], steps, seed + k, k == 0
        )
        for k, (half, steps) in enumerate(zip(mixed, sizes["train"], strict=True))
    )
    shape, every = tuple(images.test.shape[1:]), torch.arange(DIGITS)
    wanted, arrays, rows = every.repeat_interleave(sizes["each"]), {}, []

    def add(name: str, x: Tensor, y: Tensor, array: str = "") -> None:
        rows.append({"samples": name} | judged(lambda part: judge(kernel, part, 0), x, y))
        if array:
            arrays[array] = model.scale.to_pixels(x)

    for power in sizes["powers"]:

        def factor(part: Tensor, _, power: float = power):
            return class_guide(guide, kernel, wanted[part], power)

        x = sample_each(kernel, reverse, len(wanted), shape, seed + 3, factor)
        name = "guided, p(y|x^t)" + (f"^{power:g}" if power != 1 else "")
        add(name, x, wanted, f"class_{power:g}")
    few, number = sizes["particles"]
    if few:
        some = every.repeat_interleave(few)
        r = class_guide(guide, kernel, some.repeat_interleave(number))
        size = (len(some), number, *shape)
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=False):
            warnings.simplefilter("ignore", Collapsed)  # few particles per sample
            drawn = particles(kernel, reverse, size, seeded(seed + 4), r, dtype=torch.float32)
        name = f"guided, p(y|x^t), {number} weighted particles"
        add(name, drawn.sample(seeded(seed + 5)), some, "class_weighted")
    x = sample_each(kernel, reverse, len(wanted), shape, seed + 3)
    add("not guided", x, wanted, "class_none")
    test = model.scale.dequantise(images.test[:2000], seeded(seed + 2))
    add("test images", test, y := labels[1][: len(test)])
    right = accuracies(guide, kernel, test, y, seeded(seed + 6))
    return Measured({"classes": {"thin_steps": kernel.T, "guide": right, "rows": rows}}, {}, arrays)
