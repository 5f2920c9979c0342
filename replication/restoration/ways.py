"""Held-out images restored from observations, by each way that r enters and by other methods."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nonequilibrium.bound.bound import mean_se
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.chain import Factor
from nonequilibrium.diffusion.evidence import Through
from nonequilibrium.diffusion.posterior import (
    WITHIN,
    Between,
    Denoise,
    Inpaint,
    denoised,
    denoised_mean,
    excess,
)
from nonequilibrium.diffusion.sampling import sample, sample_each
from nonequilibrium.model.images import ImageModel
from replication.measure.measured import Measured
from replication.measure.metrics import seeded
from replication.restoration.inpaint_any import entering
from replication.restoration.observations import Task, denoised_pixels, others, scores, tasks

TIMES = 2  # how often a step is gone back and forth
THROUGH, CONSTANT, ANNEALED = "through the model", "constant r", "annealed r"
REPLACEMENT, RENOISED, MEAN = "replacement", "re-noised", "mean of the model, one call"


class Observed(NamedTuple):
    """x^0 and y of images (n, c, h, w), a model, its thinned chain; sizes as in ``restored``."""

    model: ImageModel
    chain: tuple[Any, Any]
    task: Task
    x0: Tensor
    y: Tensor
    seed: int
    sizes: Any


Way = Callable[[Observed], Tensor]  # to samples (k, n, c, h, w)


def drawn(chain, like: Tensor, seeds, factor: Callable[[Tensor], Factor]) -> Tensor:
    """A sample for each seed of n images ``like`` these; factor: from their indices to their r."""
    (kernel, reverse), n, shape = chain, len(like), like.shape[1:]
    x = sample_each(kernel, reverse, n, shape, [*seeds], lambda part, _: factor(part % n), 32)
    return x.reshape(-1, *like.shape)


def without_noise(seen: Observed, annealed: bool) -> Tensor:
    """Samples given noisy images, by the factor ``Denoise``."""
    seeds = range(seen.seed, seen.seed + seen.sizes.samples)
    return drawn(seen.chain, seen.y, seeds, lambda part: Denoise(seen.y[part], 1.0, annealed))


def posterior(seen: Observed, r: str) -> Tensor:
    """Samples of the posterior, r a key of ``inpaint.FACTORS``, (samples, n, c, h, w)."""
    (kernel, reverse), task, through = seen.chain, seen.task, r == "through"
    solve, limits = seen.sizes.solve, seen.model.scale.limits

    def factor(part: Tensor) -> Factor:
        if task.known is not None:
            return entering(r, reverse, seen.x0[part], task.known, solve, limits)
        # The pixels of a block, seen through one number, must not be assumed independent.
        observed = reverse, task.A, seen.y[part], task.var
        near, far = (Through(*observed, steps, WITHIN) for steps in (max(solve, 2), 1))
        return Between(near, far, limits=limits)

    chain = kernel, Through.skip if through else reverse
    return drawn(chain, seen.x0, range(seen.seed, seen.seed + seen.sizes.samples), factor)


def back_and_forth(seen: Observed) -> Tensor:
    """Replacement with every step gone ``TIMES`` more times."""
    assert seen.task.known is not None, "a way for masks"
    r, shape = Inpaint(seen.x0, seen.task.known, annealed=True), seen.x0.shape
    draws = [seeded(seen.seed + 100 + k) for k in range(seen.sizes.samples)]
    options: dict[str, Any] = {"r": r, "times": TIMES, "dtype": torch.float32}
    return torch.stack([sample(*seen.chain, shape, random, **options) for random in draws])


def from_there(seen: Observed) -> Tensor:
    """The chain from the step whose noise is that of y."""
    chain, var = noise_chain(seen.model, seen.task.var, seen.sizes.steps), seen.task.var
    draws = (seeded(seen.seed + 200 + k) for k in range(seen.sizes.samples))
    parts = ([denoised(*chain, y, var, random) for y in seen.y.split(32)] for random in draws)
    return torch.stack([*map(torch.cat, parts)])


def noise_chain(model: ImageModel, var: float, steps: int) -> tuple[Any, Any]:
    """A thinned chain of ``steps`` to half as many more steps, one of which has nearly ``var``."""
    T = model.params.n_steps
    lengths = range(min(steps, T), min(steps + steps // 2, T) + 1)
    return min(map(model.thinned, lengths), key=lambda chain: excess(chain[0], var))


def by_one_call(seen: Observed) -> Tensor:
    """The mean of x^0 given y of the model, by the step of this noise, (1, n, c, h, w)."""
    chain, random = seen.model.thinned(seen.model.params.n_steps), seeded(seen.seed + 300)
    parts = [denoised_mean(*chain, y, seen.task.var, random) for y in seen.y.split(32)]
    return torch.cat(parts)[None]


def ways(task: Task) -> dict[str, Way]:
    """How r can enter, by name."""
    if task.A is None:
        constant, annealed = (partial(without_noise, annealed=fades) for fades in (False, True))
        return {CONSTANT: constant, ANNEALED: annealed, THROUGH: from_there, MEAN: by_one_call}
    through: dict[str, Way] = {THROUGH: partial(posterior, r="through")}
    if task.known is None:
        return through
    held: dict[str, Way] = {CONSTANT: partial(posterior, r="constant")}
    held |= {REPLACEMENT: partial(posterior, r="replacement"), RENOISED: back_and_forth}
    return held | through


def gain(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict:
    """Ours less theirs, image by image: {measure: {"mean", "se"}}."""
    off = {name: mean_se(ours[name] - theirs[name]) for name in ours}
    return {name: {"mean": mean, "se": error} for name, (mean, error) in off.items()}


def row(method: str, values: dict[str, Tensor]) -> dict:
    """A row of the means of ``values`` over images and their standard errors."""
    entry: dict = {"method": method, "n": len(values["PSNR"])}
    for name, value in values.items():
        entry[name], entry[f"{name}_se"] = mean_se(value)
    return entry


def restored_task(seen: Observed, test: Tensor, train: Tensor) -> tuple[dict, Tensor]:
    """One task by every way and method: its entry in numbers, and strips of up to 8 images."""
    task, scale, estimates, ours = seen.task, seen.model.scale, {}, ""
    known = torch.zeros((), dtype=torch.bool) if task.known is None else task.known
    for way, draw in ways(task).items():
        x, name = draw(seen), way
        if len(x) > 1:
            estimates[f"one sample, {way}"] = torch.where(known, test, scale.to_pixels(x[0]))
            name = f"mean of {len(x)} samples, {way}"
            ours = name if way == THROUGH else ours
        estimates[name] = torch.where(known, test, denoised_pixels(scale, x.mean(0)))
    given, random = scale.to_pixels(seen.x0), seeded(seen.seed + 500)
    theirs, left_out = others(task, given, seen.y, scale, train, random)
    estimates |= theirs
    shown = task.shown(seen.y, scale, test.shape[-2:])
    strips = {"held-out": test, "what is seen": shown} | estimates
    values = {name: scores(test, x, task.known) for name, x in estimates.items()}
    rows = [row(name, value) for name, value in values.items()]
    entry: dict = {"rows": rows, "left_out": left_out, "strips": list(strips)}
    if ours:
        entry["gains"] = {name: gain(values[ours], values[name]) for name in theirs}
    return entry, torch.stack([strip[:8] for strip in strips.values()])


def restored(model: ImageModel, images: ImageSet, sizes: Any, seed: int) -> Measured:
    """Every task on held-out images by every way, beside the other methods.

    sizes: images, and samples of each by every way; steps of the thinned chain; solve, steps of
    conjugate gradients. numbers["restored"]["tasks"][task]: rows of means; gains, the mean of
    samples through the model less each other method; strips, the names of the pictures in the array
    named by numbers["restored"]["keys"][task], uint8.
    """
    test = images.test[torch.randperm(len(images.test), generator=seeded(seed))[: sizes.images]]
    x0 = model.scale.dequantise(test, seeded(seed + 2))
    train = model.scale.dequantise(images.train, seeded(seed + 1))
    chain = model.thinned(min(sizes.steps, model.params.n_steps))
    numbers, keys, arrays = {}, {}, {}
    for place, (name, task) in enumerate(tasks(*test.shape[-2:]).items()):
        y, own = task.seen(x0, seeded(seed + 3)), 1000 * (place + 1) + seed
        seen, keys[name] = Observed(model, chain, task, x0, y, own, sizes), f"restored_{place}"
        numbers[name], arrays[keys[name]] = restored_task(seen, test, train)
    settings = {"model": sizes.model, "n_steps": model.params.n_steps}
    settings |= {"thin_steps": chain[0].T, "samples": sizes.samples, "solve": sizes.solve}
    return Measured({"restored": settings | {"tasks": numbers, "keys": keys}}, {}, arrays)
