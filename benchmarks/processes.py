"""How much sooner two processes end than one: measuring and training CIFAR-10's network, a thread
for each process.

Seconds are those of the work, by the clock on the wall; a process starts in a few more. They need
two cores that do nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.steps import trained
from benchmarks.timing import Settings, spread
from nonequilibrium.bound.bound import sampled_bound
from nonequilibrium.distributed import first, group
from nonequilibrium.model.images import OPTIMISERS
from nonequilibrium.training.devices import keep_freed_memory
from nonequilibrium.training.fit import Ascent, Watch, fit
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
    ascent = Ascent(OPTIMISERS[model.params.optimiser], average=(model.network, model.params.ema))
    steps = 2 if small else STEPS
    work = model, model.objective, model.groups(), steps, 0
    return lambda: fit(*work, ascent, Watch("benchmark", steps))


WORK = {"measuring": measuring, "training": training}


def seconds(which: str, small: bool) -> float:
    """One process: the work once to warm up, then once by the clock."""
    keep_freed_memory()
    torch.set_num_threads(1)
    with group():
        work = WORK[which](small)
        work()
        began = time.perf_counter()
        work()
        return time.perf_counter() - began


def run(processes: int, which: str, small: bool) -> float:
    """Seconds of the first of so many processes that torchrun starts."""
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = ["-m", *launch, "-m", "benchmarks.processes", which, "small" if small else "whole"]
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    return float(done.stdout)


def measured(its: Settings) -> dict:
    """{work: {"one", "two": seconds, "speed-up"}}, each median and quartiles of rounds in which
    both were run in turn.
    """
    found = {}
    for which in WORK:
        taken: dict[int, list[float]] = {1: [], 2: []}
        for number in range(2 if its.small else max(3, its.repeats // 3)):
            for processes in (1, 2) if number % 2 == 0 else (2, 1):
                taken[processes].append(run(processes, which, its.small))
        gain = [one / two for one, two in zip(taken[1], taken[2], strict=True)]
        found[which] = {"one": spread(taken[1]), "two": spread(taken[2]), "speed-up": spread(gain)}
    return found


if __name__ == "__main__":
    took = seconds(sys.argv[1], sys.argv[2] == "small")
    if first():
        print(took)
