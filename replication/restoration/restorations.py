"""Posteriors on images (section 2.5): restorations, digits of a wanted class, and the average (9).

    nonequilibrium measure restorations

needs the data sets, the weights in models/, and two and a half hours on one core. Quick, it takes
models trained for seconds on images that ship with scikit-learn.
"""

import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from skimage import data as pictures
from torch import Tensor

from nonequilibrium.bound.bound import bits
from nonequilibrium.bound.theory import estimates, log_ratios
from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.chain import Kernel, Normal, Reverse
from nonequilibrium.model.images import ImageModel
from replication.data.images import load_images, load_labels, present
from replication.files import ROOT, check_writable
from replication.measure.measure import threads, trained
from replication.measure.measured import Measured
from replication.measure.metrics import bootstrapped, provenance, seeded
from replication.restoration.classes import guided_digits
from replication.restoration.inpaint import SAMPLES, THIN, centre, inpaint, sheet
from replication.restoration.ways import restored
from replication.settings.settings import profile as sizes_of

NAME, SEED = "restorations", 7
BLOCK = 64  # trajectories at a time


def restorations(profile: str) -> Measured:
    """All studies, "quick" or "full". Raises ParameterError, DataError."""
    sizes = sizes_of(NAME, profile)

    @cache
    def model_of(name: str) -> ImageModel:
        model = trained(name, ROOT / f"models/{name}.safetensors" if profile == "full" else None)
        assert isinstance(model, ImageModel), "all of them are image experiments"
        return model

    found = Measured({"profile": profile, "seed": SEED, "averages": {}})
    with threads(1):
        model = model_of(sizes["digits"]["model"])
        images, labels = load_images(model.params.data), load_labels(model.params.data)
        found.add(guided_digits(model, images, labels, sizes["digits"], SEED))
        found.numbers["classes"]["data"] = images.title
        for name, (n, counts, steps) in sizes["averages"].items():
            model = model_of(name)
            images = load_images(model.params.data)
            found.numbers["averages"][name] = likelihoods(model, images, n, counts, steps, SEED)
        restoring = SimpleNamespace(**sizes["restored"])
        model = model_of(restoring.model)
        images = load_images(model.params.data)
        found.add(restored(model, images, restoring, SEED))
        found.numbers["restored"]["data"] = images.title
        cat = photograph(model)
    found.numbers["photograph"] = list(cat)
    found.arrays["photograph"] = torch.stack(list(cat.values()))
    return found


def photograph(model: ImageModel) -> dict[str, Tensor]:
    """A cat of scikit-image, and how ``nonequilibrium inpaint`` fills it in: named images."""
    cat = np.ascontiguousarray(pictures.chelsea()[6:294:9, 96:384:9])
    picture, known = torch.from_numpy(cat).movedim(-1, 0), centre(32, 32)
    seeds, steps = list(range(SAMPLES)), min(THIN, model.params.n_steps)
    filled = inpaint(model, picture[None], known, seeds, n_steps=steps)
    return {"the picture": picture} | sheet(picture, known, filled[:, 0])


def image_log_ratios(
    kernel: Kernel[Normal], reverse: Reverse[Normal], x0: Tensor, trajectories: int, generator
) -> Tensor:
    """``log_ratios`` of images x0 (n, c, h, w): (trajectories, n) nats."""

    def one_axis(xt: Tensor, t: Tensor | int) -> Normal:
        p = reverse(xt.flatten(0, 1), t)
        return Normal(*(v.expand_as(p.mean).unflatten(0, xt.shape[:2]) for v in p))

    def of_image(image: Tensor) -> Tensor:
        sizes = [len(part) for part in torch.arange(trajectories).split(BLOCK)]
        return torch.cat([log_ratios(kernel, one_axis, image[None], n, generator) for n in sizes])

    # Without gradients in the block the low-precision copies of weights live from step to step.
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=False):
        return torch.cat([of_image(image) for image in x0], 1)


def averages(log_ratio: Tensor, sizes, pixels: int, seed: int) -> list[dict]:
    """What averages of n trajectories, n of ``sizes``, add to the mean of all, bits per pixel.

    log_ratio: (trajectories, n images) nats. Its terms differ by tens of nats and their average is
    about the largest, so that a gain says how far the average is from having converged.
    """
    rows = []
    for n in sizes:
        gained = bits((estimates(log_ratio, n).mean(0) - log_ratio.mean(0)).double()) / pixels
        rows.append({"trajectories": n} | bootstrapped("gain", gained, seed))
    return rows


def likelihoods(model: ImageModel, images: ImageSet, n: int, sizes, steps: int, seed: int) -> dict:
    """``averages`` of n test images by the chain thinned to ``steps`` steps: {"T", "rows"}."""
    kernel, reverse = model.thinned(min(steps, model.params.n_steps))
    test = images.test[torch.randperm(len(images.test), generator=seeded(seed))[:n]]
    x0 = model.scale.dequantise(test, seeded(seed + 1))
    log_ratio = image_log_ratios(kernel, reverse, x0, max(sizes), seeded(seed + 3))
    return {"T": kernel.T, "rows": averages(log_ratio, sizes, model.pixels, seed + 4)}


def run(reports: Path) -> None:
    """Measure, or say which data set is missing and leave what there is."""
    if absent := [name for name in ("mnist", "cifar10") if not present(name)]:
        missing = f"{' and '.join(absent)} not here, so nothing is measured; `make data` fetches it"
        return print(f"{NAME}: {missing}", file=sys.stderr)
    began, metrics = time.time(), reports / "metrics" / f"{NAME}.json"
    folder = reports / "measured" / NAME
    check_writable(metrics, folder / "file", reports / "provenance" / f"{NAME}.json")
    restorations("full").save(reports, NAME)
    provenance(NAME, f"dvc repro {NAME}", SEED, began, reports)
    print(f"{metrics} and {folder} are written")
