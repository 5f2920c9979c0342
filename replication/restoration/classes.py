"""Digits of a wanted class: a model of all digits, with a classifier of noisy digits as r, judged
by another classifier.

The guide and the judge share nothing but the data set: the guide is trained on noisy images of the
first half of the training set, the judge on clean images of the second.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.diffusion.particles import Collapsed, particles
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import ImageModel
from nonequilibrium.network.classifier import NoisyClassifier, class_guide
from nonequilibrium.training.classes import fit_classifier
from replication.data.images import DIGITS
from replication.measure.measured import Measured
from replication.measure.metrics import seeded

SURE = 0.9  # the judge is sure of a digit that it gives more than this probability


@dataclass(frozen=True)
class ClassSizes:
    """each: samples of each class. steps: of the thinned chain. train: steps of the guide's
    training and of the judge's.

    powers: of p(y|x^t); only 1 is the posterior. particles: (samples of each class, particles of
    each sample); (0, 0) for none.
    """

    each: int
    steps: int
    train: tuple[int, int]
    powers: tuple[float, ...] = (1.0, 3.0)
    particles: tuple[int, int] = (0, 0)


def classifiers(
    kernel: GaussianKernel,
    model: ImageModel,
    images: ImageSet,
    labels: Tensor,
    train: tuple[int, int],
    seed: int,
) -> tuple[NoisyClassifier, NoisyClassifier]:
    """(guide, judge), trained on the two halves of the training images; labels (n,) of these."""
    half, found = len(images.train) // 2, []
    mixed = torch.randperm(len(images.train), generator=seeded(seed))
    for number, (part, noisy) in enumerate(((mixed[:half], True), (mixed[half:], False))):
        pixels = images.train[part]
        classifier = NoisyClassifier(tuple(pixels.shape[1:]), DIGITS, seeded(seed + number))

        def x0(chosen: Tensor, generator: torch.Generator, pixels: Tensor = pixels) -> Tensor:
            return model.scale.dequantise(pixels[chosen], generator)

        fit_classifier(classifier, kernel, x0, labels[part], train[number], seed + number, noisy)
        found.append(classifier.eval().requires_grad_(False))
    return found[0], found[1]


def judged(judge: Callable[[Tensor], Tensor], x: Tensor, wanted: Tensor) -> dict[str, float]:
    """Shares of x (n, c, h, w): ``wanted``, taken for the wanted class, with its error, and
    ``sure``, taken surely for any class.
    """
    with torch.no_grad():
        log_p = torch.cat([judge(part) for part in x.split(500)])
    share = float((log_p.argmax(1) == wanted).float().mean())
    sure = float((log_p.exp().max(1).values > SURE).float().mean())
    return {
        "wanted": share,
        "wanted_se": (share * (1 - share) / len(x)) ** 0.5,
        "sure": sure,
        "n": len(x),
    }


def accuracies(
    guide: NoisyClassifier, kernel: GaussianKernel, x0: Tensor, y: Tensor, generator
) -> list[dict]:
    """How often the guide is right about x^t of test images x0, at six levels of noise: rows
    {"noise": σ_t, "right"}.
    """
    rows = []
    for t in torch.linspace(0, kernel.T, 6).round().long().tolist():
        with torch.no_grad():
            xt = kernel.sample(kernel.q_marginal(x0, t), generator)
            right = (guide(kernel, xt, t).argmax(1) == y).float().mean()
        noise = float((kernel.one_minus_alpha_bar[t] / kernel.alpha_bar[t]).sqrt())
        rows.append({"noise": noise, "right": float(right)})
    return rows


def guided_digits(
    model: ImageModel, images: ImageSet, labels: tuple[Tensor, Tensor], sizes: ClassSizes, seed: int
) -> Measured:
    """Samples of every class, and the shares that the judge takes for it.

    numbers["classes"]: {"thin_steps", "guide": rows of ``accuracies``, "rows": [{"samples",
    "wanted", "wanted_se", "sure", "n"}]}.
    arrays: class_<power>, class_weighted and class_none, (10 · each, c, h, w) uint8, ten rows one a
    class.
    """
    kernel, reverse = model.thinned(min(sizes.steps, model.params.n_steps))
    guide, judge = classifiers(kernel, model, images, labels[0], sizes.train, seed)
    shape, wanted = tuple(images.test.shape[1:]), torch.arange(DIGITS).repeat_interleave(sizes.each)
    test = model.scale.dequantise(images.test[:2000], seeded(seed + 2))
    arrays, rows = {}, []

    def judge_of(x: Tensor) -> Tensor:
        return judge(kernel, x, 0)

    def add(name: str, array: str, x: Tensor, y: Tensor) -> None:
        rows.append({"samples": name} | judged(judge_of, x, y))
        arrays[array] = model.scale.to_pixels(x)

    for power in sizes.powers:

        def factor(part: Tensor, _, power: float = power):
            return class_guide(guide, kernel, wanted[part], power)

        x = sample_each(kernel, reverse, len(wanted), shape, seed + 3, factor)
        add(
            f"guided, p(y|x^t)^{power:g}" if power != 1 else "guided, p(y|x^t)",
            f"class_{power:g}",
            x,
            wanted,
        )
    each, number = sizes.particles
    if each:
        y = torch.arange(DIGITS).repeat_interleave(each)
        r = class_guide(guide, kernel, y.repeat_interleave(number))
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=False):
            warnings.simplefilter("ignore", Collapsed)  # few particles a sample
            drawn = particles(
                kernel, reverse, (len(y), number, *shape), seeded(seed + 4), r, dtype=torch.float32
            )
        add(
            f"guided, p(y|x^t), {number} weighted particles",
            "class_weighted",
            drawn.sample(seeded(seed + 5)),
            y,
        )
    add(
        "not guided",
        "class_none",
        sample_each(kernel, reverse, len(wanted), shape, seed + 3),
        wanted,
    )
    rows.append({"samples": "test images"} | judged(judge_of, test, labels[1][: len(test)]))
    right = accuracies(guide, kernel, test, labels[1][: len(test)], seeded(seed + 6))
    return Measured({"classes": {"thin_steps": kernel.T, "guide": right, "rows": rows}}, {}, arrays)
