"""Trajectories of the forward and the reverse chain (4), (5), ending with the fixed last step (44)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from tqdm.auto import tqdm

from nonequilibrium.diffusion.chain import Factor, Kernel, P, Reverse
from nonequilibrium.files import quiet
from nonequilibrium.training.distributed import collected, mine


@torch.no_grad()
def forward_trajectory(
    kernel: Kernel, x0: Tensor, generator: torch.Generator, keep: Iterable[int] | None = None
) -> dict[int, Tensor]:
    """One forward trajectory (3) from each example of x0 (n, event): {t: x^t} for the steps in
    ``keep`` (default all).
    """
    wanted = set(range(kernel.T + 1) if keep is None else keep)
    if outside := sorted(wanted - set(range(kernel.T + 1))):
        raise ValueError(f"keep has step {outside[0]}; the chain has steps 0 to {kernel.T}")
    x, kept = x0, {0: x0}
    for t in range(1, kernel.T + 1):
        x = kernel.sample(kernel.q_step(x, t), generator)
        if t in wanted:
            kept[t] = x
    return {t: kept[t] for t in sorted(wanted)}


@torch.no_grad()
def reverse_trajectory(
    kernel: Kernel[P],
    reverse: Reverse[P],
    shape: Sequence[int],
    generator: torch.Generator | list[torch.Generator],
    keep: Iterable[int] | None = None,
    mean: bool = False,
    r: Factor | None = None,
    dtype: torch.dtype = torch.float64,
    start: tuple[int, Tensor] | None = None,
) -> dict[int, Tensor]:
    """Reverse trajectories (5) from π: {t: x^t} for the steps in ``keep`` (default: all).

    shape: (n, event).
    generator: one, or a list of n, one a sample: a sample then does not depend on what it is
    batched with.
    mean: take the mean of the last step p(x^0|x^1) in place of a sample. It looks cleaner but is no
        sample of the model (Gaussian kernel only; for display).
    r: a factor that makes this the posterior's trajectory (22), see ``posterior``.
    start: (t, x^t) to go on from, in place of T and a draw from π.
    """
    wanted = set(range((kernel.T if start is None else start[0]) + 1) if keep is None else keep)
    if outside := sorted(wanted - set(range(kernel.T + 1))):
        raise ValueError(f"keep has step {outside[0]}; the chain has steps 0 to {kernel.T}")
    if isinstance(generator, list) and len(generator) != shape[0]:
        raise ValueError(
            f"there are {len(generator)} generators for {shape[0]} samples; there must be one for each"
        )
    if start is None:
        p = kernel.stationary(shape, dtype)
        start = (
            kernel.T,
            _draw(kernel, p if r is None else r(kernel, p, None, kernel.T + 1), generator),
        )
    first, x = start
    kept = {first: x}
    for t in range(first, 0, -1):
        p = reverse(x, t) if t > 1 else kernel.p_edge(x)
        if r is not None:
            p = r(kernel, p, x, t)
        x = cast(Any, p).mean if mean and t == 1 else _draw(kernel, p, generator)
        if t - 1 in wanted:
            kept[t - 1] = x
    return {t: kept[t] for t in sorted(wanted)}


def _draw(kernel: Kernel[P], p: P, generator: torch.Generator | list[torch.Generator]) -> Tensor:
    """A draw from p, each example by its own generator if there is a list of them."""
    if not isinstance(generator, list):
        return kernel.sample(p, generator)
    return kernel.sample(
        p, noise=torch.stack([kernel.noise(p, p[0].shape[1:], each) for each in generator])
    )


def sample(
    kernel: Kernel[P],
    reverse: Reverse[P],
    shape: Sequence[int],
    generator: torch.Generator | list[torch.Generator],
    mean: bool = False,
    **options,
) -> Tensor:
    """True samples of the model, (n, event); see ``reverse_trajectory``."""
    return reverse_trajectory(kernel, reverse, shape, generator, keep=[0], mean=mean, **options)[0]


def sample_each(
    kernel: Kernel[P],
    reverse: Reverse[P],
    n: int,
    shape: Sequence[int],
    seed: int | list[int],
    r: Callable[[Tensor, list[torch.Generator]], Factor] | None = None,
    block: int = 100,
) -> Tensor:
    """n true samples of images, (n, *shape) float32; the i-th depends on (seed, i) alone, not on
    what it is drawn beside.

    seed: one, or several, of each of which there are n samples: (len(seed) n, *shape), one seed
    after the other.
    r: for posteriors; from the indices of a block and their generators to the factor r of that
    block.
    """
    places = [(one, i) for one in (seed if isinstance(seed, list) else [seed]) for i in range(n)]
    blocks, parts = torch.arange(len(places)).split(block), {}
    steps = sum(map(mine, range(len(blocks)))) * (kernel.T - 1)
    bar = tqdm(total=steps, desc="samples", unit="step", disable=quiet())

    def step(xt: Tensor, t: Tensor | int) -> P:
        bar.update()
        return reverse(xt, t)

    # The outer context lets the networks' low-precision copies of their weights live from step to
    # step.
    with bar, torch.autocast("cpu", torch.bfloat16, enabled=False):
        for number, part in enumerate(blocks):
            if not mine(number):
                continue
            each = [
                torch.Generator().manual_seed(1_000_003 * one + i)
                for one, i in (places[k] for k in part)
            ]
            factor = None if r is None else r(part, each)
            parts[number] = sample(
                kernel, step, (len(part), *shape), each, r=factor, dtype=torch.float32
            )
    return torch.cat(collected(parts))
