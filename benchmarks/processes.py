"""How much sooner two processes end than one: measuring and training CIFAR-10's network, a thread
for each process.

Seconds are those of the work, by the clock on the wall; a process starts in a few more. They need
two cores that do nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.steps import trained
from benchmarks.timing import Settings, spread
from nonequilibrium.bound.bound import sampled_bound
from nonequilibrium.model.images import OPTIMISERS
from nonequilibrium.training.devices import keep_freed_memory
from nonequilibrium.training.distributed import synchronised
from nonequilibrium.training.fit import fit
from nonequilibrium.training.spawn import run
from replication.data.images import load_images

IMAGES, BLOCK, STEPS = 1600, 50, 60  # of the bound, at once of them; of a training


def measuring(small: bool) -> Callable[[], object]:
    """The bound of test images with one t an image, twice."""
    model = trained("cifar10")
    kernel, n = model.kernel(), 2 * BLOCK if small else IMAGES
    x0 = model.scale.dequantise(
        load_images(model.params.data).test[:n], torch.Generator().manual_seed(0)
    )

    def work() -> None:
        with torch.no_grad():
            sampled_bound(
                kernel,
                model.reverse(kernel),
                x0,
                torch.Generator().manual_seed(0),
                1,
                model.proposal(),
                block=BLOCK,
            )

    return work


def training(small: bool) -> Callable[[], object]:
    """Steps of training from the committed weights, on images that training saw."""
    model = trained("cifar10")
    model.take(load_images(model.params.data), torch.Generator().manual_seed(0))
    options = {
        "optimiser": OPTIMISERS[model.params.optimiser],
        "average": (model.network, model.params.ema),
    }
    steps = 2 if small else STEPS
    return lambda: fit(
        model,
        synchronised(model),
        model.groups(),
        steps,
        0,
        log_every=steps,
        label="benchmark",
        **options,
    )


WORK = {"measuring": measuring, "training": training}


def seconds(which: str, small: bool) -> float:
    """What a process does: the work once to warm up, then once by the clock."""
    keep_freed_memory()
    work = WORK[which](small)
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(its: Settings) -> dict:
    """{work: {"one", "two": seconds, "speed-up"}}, each median and quartiles of rounds in which
    both were run in turn.
    """
    threads, found = torch.get_num_threads(), {}
    try:
        for which in WORK:
            taken: dict[int, list[float]] = {1: [], 2: []}
            for number in range(2 if its.small else max(3, its.repeats // 3)):
                for devices in (1, 2) if number % 2 == 0 else (2, 1):
                    torch.set_num_threads(devices)  # which ``run`` shares out
                    taken[devices].append(run(seconds, devices, which, its.small))
            gain = [one / two for one, two in zip(taken[1], taken[2], strict=True)]
            found[which] = {
                "one": spread(taken[1]),
                "two": spread(taken[2]),
                "speed-up": spread(gain),
            }
    finally:
        torch.set_num_threads(threads)
    return found
