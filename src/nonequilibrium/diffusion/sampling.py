"""Trajectories of the forward chain (3) and of the reverse chain (5), whose last step is (44)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from nonequilibrium.diffusion.chain import Factor, Kernel, P, Random, Reverse
from nonequilibrium.distributed import collected, mine
from nonequilibrium.errors import ParameterError
from nonequilibrium.files import bar


def reverse_chain(
    kernel: Kernel[P],
    reverse: Reverse[P],
    shape: Sequence[int],
    generator: Random,
    r: Factor | None = None,
    dtype: torch.dtype = torch.float64,
    start: tuple[int, Tensor] | None = None,
    times: int = 0,
) -> Iterator[tuple[int, Tensor, Any, Any]]:
    """The chain p(x^{0..T}) (5): (t, x^t, p, p̃) for t = T..0, x^t ~ p̃ = p(x^t|x^{t+1}) r(x^t).

    shape: (n, event). generator: one, or a list of n, with which no sample depends on the others.
    start: (t, x^t) in place of a draw from π. times: how often a step t ≥ 2 is taken again after a
    forward step, so that unknown pixels see known ones; not exact (Lugmayr et al. 2022).
    """
    if not (isinstance(times, int) and times >= 0):
        raise ParameterError(f"times is {times!r}; it must be a whole number of at least 0")
    x: Any  # None before the draw from π
    first, x = start or (kernel.T + 1, None)
    if start:
        yield first, x, None, None
    for t in range(first, 0, -1):
        for again in range(1 + times if 1 < t <= kernel.T else 1):
            if again:
                x = kernel.sample(kernel.q_step(x, t), generator)
            if x is None:
                p = kernel.stationary(shape, dtype)
            else:
                p = reverse(x, t) if t > 1 else kernel.p_edge(x)
            p_tilde = p if r is None else r(kernel, p, x, t)
            x = kernel.sample(p_tilde, generator)
        yield t - 1, x, p, p_tilde


def _wanted(kernel: Kernel, keep: Iterable[int] | None) -> set[int]:
    """The steps of the chain to keep, by default all."""
    wanted = set(range(kernel.T + 1) if keep is None else keep)
    if absent := wanted - set(range(kernel.T + 1)):
        raise ParameterError(f"keep has step {min(absent)}; the chain has 0 to {kernel.T}")
    return wanted


@torch.no_grad()
def forward_trajectory(
    kernel: Kernel, x0: Tensor, generator: Generator, keep: Iterable[int] | None = None
) -> dict[int, Tensor]:
    """A forward trajectory (3) from each example of x0 (n, event): {t: x^t} for t in ``keep``."""
    wanted, kept, x = _wanted(kernel, keep), {}, x0
    for t in range(kernel.T + 1):
        x = kernel.sample(kernel.q_step(x, t), generator) if t else x0
        if t in wanted:
            kept[t] = x
    return kept


@torch.no_grad()
def reverse_trajectory(
    kernel: Kernel[P],
    reverse: Reverse[P],
    shape: Sequence[int],
    generator: Random,
    keep: Iterable[int] | None = None,
    **options,
) -> dict[int, Tensor]:
    """Reverse trajectories (5), {t: x^t} for t in ``keep``; the rest as of ``reverse_chain``."""
    wanted = _wanted(kernel, keep)
    chain = reverse_chain(kernel, reverse, shape, generator, **options)
    return dict(sorted({t: x for t, x, *_ in chain if t in wanted}.items()))


def sample(
    kernel: Kernel[P], reverse: Reverse[P], shape: Sequence[int], generator: Random, **options
) -> Tensor:
    """True samples of the model, x^0 (n, event); options as of ``reverse_chain``."""
    return reverse_trajectory(kernel, reverse, shape, generator, keep=[0], **options)[0]


def sample_each(
    kernel: Kernel[P],
    reverse: Reverse[P],
    n: int,
    shape: Sequence[int],
    seed: int | list[int],
    r: Callable[[Tensor, list[Generator]], Factor] | None = None,
    block: int = 100,
) -> Tensor:
    """n true samples of images, (n, *shape) float32; the i-th depends on (seed, i) alone.

    seed: one, or several with n samples each, one seed after the other. r: for posteriors; from the
    indices of a block and their generators to the block's factor.
    """
    seeds = seed if isinstance(seed, list) else [seed]
    own = [1_000_003 * s + i for s in seeds for i in range(n)]  # with s + i, seeds would collide
    blocks, parts = torch.arange(len(own)).split(block), {}
    steps = sum(map(mine, range(len(blocks)))) * (kernel.T - 1)
    done = bar(total=steps, desc="samples", unit="step")

    def step(xt: Tensor, t: Tensor | int) -> P:
        done.update()
        return reverse(xt, t)

    # The outer context keeps the networks' low-precision copies of their weights between steps.
    with done, torch.autocast("cpu", torch.bfloat16, enabled=False):
        for number, part in enumerate(blocks):
            if mine(number):
                generators = [Generator().manual_seed(own[k]) for k in part]
                options = {"r": r and r(part, generators), "dtype": torch.float32}
                parts[number] = sample(kernel, step, (len(part), *shape), generators, **options)
    return torch.cat(collected(parts))
