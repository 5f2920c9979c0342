"""The ways that r enters the reverse chain of an image model: held, replaced, back and forth,
weighted, and through the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonequilibrium.diffusion.chain import Factor
from nonequilibrium.diffusion.denoise import denoised, denoised_mean, excess
from nonequilibrium.diffusion.evidence import Through
from nonequilibrium.diffusion.particles import Collapsed, particles
from nonequilibrium.diffusion.posterior import WITHIN, Between, Denoise, Inpaint, filled_between
from nonequilibrium.diffusion.sampling import sample, sample_each
from nonequilibrium.model.images import ImageModel
from replication.measure.metrics import seeded
from replication.restoration.observations import DENOISING, Task

TIMES = 2  # how often a step is gone back and forth
THROUGH, CONSTANT, ANNEALED = "through the model", "constant r", "annealed r"
REPLACEMENT, RENOISED, WEIGHTED = "replacement", "re-noised", "replacement, weighted"
MEAN = "mean of the model, one call"


@dataclass(frozen=True)
class Sizes:
    """How much is drawn. images: of each task. samples: of each image through the model; others: by
    the other ways.

    steps: of the thinned chain. solve: steps of conjugate gradients. particles: (images, particles)
    of the weighted way.
    """

    images: dict[str, int]
    samples: int
    others: int
    steps: int
    solve: int
    particles: tuple[int, int]


@dataclass(frozen=True)
class Setting:
    """A model, its thinned chain, a task, x^0 of the images (n, c, h, w) and what was seen of them."""

    model: ImageModel
    chain: tuple[Any, Any]
    task: Task
    x0: Tensor
    y: Tensor
    seed: int
    sizes: Sizes

    def each(self, factor: Callable[[Tensor], Factor], samples: int, plain: bool = True) -> Tensor:
        """x of ``samples`` samples of every image, (samples, n, c, h, w). factor: from the indices
        of images to their r.
        """
        kernel, reverse = self.chain
        n, shape = len(self.x0), self.x0.shape[1:]
        seeds = list(range(self.seed, self.seed + samples))
        reverse = reverse if plain else Through.skip
        drawn = sample_each(
            kernel, reverse, n, shape, seeds, lambda part, _: factor(part % n), block=32
        )
        return drawn.reshape(samples, n, *shape)


def through(its: Setting) -> Tensor:
    """Samples through the model, (samples, n, c, h, w)."""
    reverse, task = its.chain[1], its.task

    def factor(part: Tensor) -> Factor:
        y, solve, limits = its.y[part], its.sizes.solve, its.model.scale.limits
        if task.known is not None:
            return filled_between(reverse, its.x0[part], task.known, solve, limits)
        # The pixels of a block are seen through one number. Taken for independent, each of them
        # would be moved too far.
        return Between(
            Through(reverse, task.A, y, task.var, max(solve, 2), WITHIN),
            Through(reverse, task.A, y, task.var, 1, WITHIN),
            limits=limits,
        )

    return its.each(factor, its.sizes.samples, plain=False)


def held(annealed: bool) -> Callable[[Setting], Tensor]:
    """Known pixels held at their values, or replaced by their own forward chain."""

    def drawn(its: Setting) -> Tensor:
        return its.each(
            lambda part: Inpaint(its.x0[part], its.task.known, annealed), its.sizes.others
        )

    return drawn


def back_and_forth(its: Setting) -> Tensor:
    """Replacement with every step gone ``TIMES`` more times."""
    r = Inpaint(its.x0, its.task.known, annealed=True)
    draws = [seeded(its.seed + 100 + k) for k in range(its.sizes.others)]
    options = {"r": r, "times": TIMES, "dtype": torch.float32}
    return torch.stack([sample(*its.chain, its.x0.shape, g, **options) for g in draws])


def noise_taken(annealed: bool) -> Callable[[Setting], Tensor]:
    """The paper's way of denoising, r the same at all t, or annealed."""

    def drawn(its: Setting) -> Tensor:
        return its.each(lambda part: Denoise(its.y[part], its.task.var, annealed), its.sizes.others)

    return drawn


def from_there(its: Setting) -> Tensor:
    """The chain from the step whose noise is that of y."""
    draws = [seeded(its.seed + 200 + k) for k in range(its.sizes.samples)]
    chain = noise_chain(its.model, its.task.var, its.sizes.steps)
    return torch.stack(
        [torch.cat([denoised(*chain, y, its.task.var, g) for y in its.y.split(32)]) for g in draws]
    )


def noise_chain(model: ImageModel, var: float, steps: int) -> tuple[Any, Any]:
    """A thinned chain of about ``steps`` steps one of which has nearly the noise ``var``: of the
    lengths up to half as many more.
    """
    T = model.params.n_steps
    lengths = range(min(steps, T), min(steps + steps // 2, T) + 1)
    chains = [model.thinned(n) for n in lengths]
    return min(chains, key=lambda chain: excess(chain[0], var))


def by_one_call(its: Setting) -> Tensor:
    """The model's mean of x^0 given y, by the whole chain's step of this noise, (1, n, c, h, w)."""
    chain = its.model.thinned(its.model.params.n_steps)
    draws = seeded(its.seed + 300)
    return torch.cat([denoised_mean(*chain, y, its.task.var, draws) for y in its.y.split(32)])[None]


def ways(task: Task, model_looks_through: bool) -> dict[str, Callable[[Setting], Tensor]]:
    """How r can enter, by name: each from a setting to samples (k, n, c, h, w)."""
    if task.name == DENOISING:
        found = {CONSTANT: noise_taken(False), ANNEALED: noise_taken(True)}
        return found | ({THROUGH: from_there, MEAN: by_one_call} if model_looks_through else {})
    found = {}
    if task.known is not None:
        found = {CONSTANT: held(False), REPLACEMENT: held(True), RENOISED: back_and_forth}
    return found | ({THROUGH: through} if model_looks_through else {})


def weighted(its: Setting) -> tuple[dict[str, Tensor], dict]:
    """Replacement with weights (``particles``) on the first few images: x (n, c, h, w) by name, and
    what the weights are worth.
    """
    n, number = its.sizes.particles
    x0 = its.x0[:n]
    r = Inpaint(x0.repeat_interleave(number, 0), its.task.known, annealed=True)
    kernel, reverse = its.chain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Collapsed)  # the numbers below say it
        found = particles(
            kernel,
            reverse,
            (n, number, *x0.shape[1:]),
            seeded(its.seed + 400),
            r,
            dtype=torch.float32,
        )
    worth = {
        "particles": number,
        "least_effective": float(found.ess.mean(1).min()),
        "ancestors": float(found.ancestors.double().mean()),
        "resampled": float(found.resampled.double().sum(0).mean()),
    }
    estimates = {
        f"one sample, {WEIGHTED}": found.sample(seeded(its.seed + 401)),
        f"mean of {number} particles, {WEIGHTED}": found.expectation(found.x).float(),
    }
    return estimates, worth
