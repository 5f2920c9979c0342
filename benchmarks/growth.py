"""How time and memory of bound, sampling and training grow with T, pixels, examples and parameters.

Each size has a process of its own, with an untrained network of CIFAR-10's kind. Memory is what the
process held at most while it worked, less what it held before it made the network, when it had done
the same at a tiny size. It runs on Linux, which says so.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from dataclasses import replace

import torch

from benchmarks.law import fitted
from benchmarks.timing import CLOCKS, Settings, seconds
from nonequilibrium.bound.bound import full_bound, sampled_bound
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import OPTIMISERS, ImageModel
from nonequilibrium.model.weights import load_weights
from nonequilibrium.training.devices import keep_freed_memory
from nonequilibrium.training.fit import Ascent, Watch, fit
from replication.data.images import load_images
from replication.files import ROOT
from replication.settings.settings import load

SIZES = {
    "T": [30, 60, 120, 240],
    "pixels": [16**2, 32**2, 64**2, 96**2],
    "examples": [16, 32, 64, 128, 256],
    "parameters": [24, 48, 96, 144],  # maps of a convolution; the parameters follow
}
BASE = {"T": 30, "pixels": 32**2, "examples": 8, "parameters": 48}
TINY = {"T": 4, "pixels": 8**2, "examples": 2}
SHORT = 3.0  # seconds
WORK = "bound", "sampling", "training"
STEPS = 4  # of a training


class Sized(ImageModel):
    """CIFAR-10's model for images of another size."""

    side = 32

    @classmethod
    def shape_of(cls, params) -> tuple[int, int, int]:  # type: ignore[override]
        return 3, cls.side, cls.side


def built(T: int, pixels: int, examples: int, parameters: int) -> ImageModel:
    Sized.side = round(pixels**0.5)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (2 * examples, 3, Sized.side, Sized.side), generator=random, dtype=torch.uint8
    )
    params = replace(load("cifar10"), n_steps=T, conv_channels=parameters, batch=examples)
    return Sized(params, ImageSet(images, images, "noise"))


def work(which: str, model: ImageModel) -> None:
    """The bound with every t, samples by every t, or some steps of training."""
    p, random = model.params, torch.Generator().manual_seed(1)
    if which == "training":
        ascent = Ascent(OPTIMISERS[p.optimiser], average=(model.network, p.ema))
        watch = Watch("benchmark", STEPS)
        fit(model, model.objective, model.groups(), STEPS, 0, ascent, watch)
        return
    with torch.no_grad():
        kernel = model.kernel()
        if which == "bound":
            full_bound(
                kernel,
                model.reverse(kernel),
                model.x0(model.images[: p.batch], random),
                random,
                block=p.batch,
            )
        else:
            sample_each(
                kernel, model.reverse(kernel), p.batch, model.network.shape, 0, block=p.batch
            )


def held(field: str) -> int:
    """Bytes by /proc: VmRSS is what the process holds, VmHWM the most so far."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def trim() -> None:
    """Give freed memory back: else what the tiny size left counts as held before, and small sizes
    seem to need nothing.
    """
    ctypes.CDLL(None).malloc_trim(0)


def process(which: str, factor: str, size: int, clock: str) -> dict:
    """Seconds (the less of two runs, where they are short) and bytes of one size."""
    torch.set_grad_enabled(which == "training")
    work(which, built(**BASE | TINY))  # what is loaded and set up once
    trim()
    before, model = held("VmRSS"), built(**BASE | {factor: size})
    trim()
    forget_peak()  # building looks at thousands of images, which is no part of the work
    taken = seconds(lambda: work(which, model), CLOCKS[clock])
    peak = held("VmHWM") - before
    if taken < SHORT:
        taken = min(taken, seconds(lambda: work(which, model), CLOCKS[clock]))
    n = sum(p.numel() for p in model.network.parameters())
    return {
        "size": n if factor == "parameters" else size,
        "seconds": taken,
        "bytes": max(peak, 2**20),
    }


def many_images(n: int) -> dict:
    """Peak memory of K of n CIFAR-10 test images, all of it: libraries, data set, weights and the
    bound.
    """
    model = load_weights(ROOT / "models" / "cifar10.safetensors", "cifar10")
    random = torch.Generator().manual_seed(0)
    x0 = model.scale.dequantise(load_images("cifar10").test[:n], random)
    with torch.no_grad():
        kernel = model.kernel()
    sampled_bound(
        kernel, model.reverse(kernel), x0, random, 1, model.proposal(), replicates=2, block=100
    )
    return {"images": len(x0), "bytes": held("VmHWM")}


def in_process(*words) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", *map(str, words)],
        check=True,
        capture_output=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measured(its: Settings) -> dict:
    clock = next(name for name, clock in CLOCKS.items() if clock is its.clock)
    found: dict = {}
    for which in WORK:
        for factor, sizes in SIZES.items():
            if which == "training" and factor == "T":
                sizes = [10 * size for size in sizes]  # a step of training sees one t an image
            sizes = sizes[:2] if its.small else sizes
            rows = [in_process(which, factor, size, clock) for size in sizes]
            fits = {}
            for cost in ("seconds", "bytes"):
                law = fitted([row["size"] for row in rows], [row[cost] for row in rows])
                fits[cost] = {"factor": law.factor, "exponent": law.exponent, "se": law.se}
            found.setdefault(which, {})[factor] = {"rows": rows, "fits": fits}
    return {"work": found, "base": BASE, "K": in_process("many", 300 if its.small else 10_000)}


if __name__ == "__main__":
    keep_freed_memory()
    if sys.argv[1] == "many":
        print(json.dumps(many_images(int(sys.argv[2]))))
    else:
        which, factor, size, clock = sys.argv[1:]
        print(json.dumps(process(which, factor, int(size), clock)))
