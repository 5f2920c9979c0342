"""Posteriors on images (section 2.5), all that is measured of them: restorations, digits of a
wanted class, and the average (9).

    nonequilibrium restorations

writes reports/metrics/restorations.json and reports/measured/restorations/. It needs the data sets
and the weights in models/, and two and a half hours on one core. Quick, as a notebook calls it, it
takes models trained for seconds on images that ship with scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from skimage import data as pictures
from torch import Tensor

from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from replication.data.images import load_images, present
from replication.data.labels import load_labels
from replication.files import ROOT
from replication.measure.measure import threads, trained
from replication.measure.measured import Measured, MeasuredError
from replication.measure.metrics import provenance
from replication.restoration.classes import ClassSizes, guided_digits
from replication.restoration.inpaint import SAMPLES, SOLVE, THIN, inpaint, read_mask, sheet
from replication.restoration.likelihoods import likelihoods
from replication.restoration.restore import restored
from replication.restoration.ways import Sizes
from replication.settings.fields import check_name

NAME = "restorations"
SEED = 7
_ALL = (
    "inpainting, centre",
    "inpainting, right half",
    "inpainting, thin strokes",
    "inpainting, 80 % at random",
    "4× super-resolution",
    "blur of 1.5 pixels",
    "denoising, SNR 1",
)


@dataclass(frozen=True)
class Profile:
    """restored: by model, with what it is called in tables. averages: (model, images, numbers of
    trajectories, steps).
    """

    restored: dict[str, tuple[str, Sizes]]
    digits: tuple[str, ClassSizes]
    averages: dict[str, tuple[int, tuple[int, ...], int]]


def _images(few: int, many: int, denoised: int) -> dict[str, int]:
    return dict.fromkeys(_ALL, few) | dict.fromkeys(_ALL[:2], many) | {_ALL[-1]: denoised}


PAPER_S, UNET = "the paper's kind of network", "U-Net"
PROFILES = {
    "quick": Profile(
        {
            "cifar10_unet": (
                UNET,
                Sizes({_ALL[0]: 3, _ALL[2]: 3, _ALL[4]: 3, _ALL[6]: 3}, 2, 2, 10, 2, (2, 4)),
            )
        },
        ("mnist_dense", ClassSizes(10, 40, (150, 100), (1.0, 3.0), (2, 4))),
        {"mnist_dense": (10, (1, 4, 16), 40)},
    ),
    "full": Profile(
        {
            "cifar10": (PAPER_S, Sizes(_images(40, 100, 100), 16, 2, 30, 0, (4, 16))),
            "cifar10_unet": (UNET, Sizes(_images(40, 100, 100), 16, 2, 30, SOLVE, (2, 16))),
            "cifar10_unet_large": (
                "larger U-Net",
                Sizes(_images(16, 32, 32), 16, 2, 30, SOLVE, (2, 16)),
            ),
        },
        ("mnist_dense", ClassSizes(60, 100, (1200, 800), (1.0, 3.0), (10, 8))),
        {"mnist_dense": (50, (1, 10, 32), 1000), "cifar10": (50, (1, 10, 32), 50)},
    ),
}


def restorations(profile: str, seed: int = SEED, overrides: dict | None = None) -> Measured:
    """All of it. numbers: {"profile", "seed", "models": {experiment: name}, each of them,
    "classes", "averages", "photograph"}.

    profile: "quick" or "full", a key of ``PROFILES``. overrides: parameters of the quick trainings.
    Raises ParameterError, DataError.
    """
    check_name("profile", profile, PROFILES)
    its = PROFILES[profile]
    models: dict[str, ImageModel] = {}

    def model_of(name: str) -> ImageModel:
        if name not in models:
            path = ROOT / "models" / f"{name}.safetensors"
            model = (
                load_weights(path, name) if profile == "full" else trained(name, None, overrides)
            )
            assert isinstance(model, ImageModel), "all of them are image experiments"
            models[name] = model
        return models[name]

    found = Measured({"profile": profile, "seed": seed, "models": {}, "averages": {}})
    with threads(1):
        name, sizes = its.digits
        model = model_of(name)
        images, labels = load_images(model.params.data), load_labels(model.params.data)
        found.add(guided_digits(model, images, labels, sizes, seed))
        found.numbers["classes"]["data"] = images.title
        for name, (n, counts, steps) in its.averages.items():
            model = model_of(name)
            images = load_images(model.params.data)
            found.numbers["averages"][name] = likelihoods(model, images, n, counts, steps, seed)
        for name, (title, some) in its.restored.items():
            model = model_of(name)
            images = load_images(model.params.data)
            found.add(restored(model, images, some, seed, name))
            found.numbers["models"][name] = title
            found.numbers[name]["data"] = images.title
        cat = photograph(model_of("cifar10_unet"))
        found.numbers["photograph"], found.arrays["photograph"] = (
            list(cat),
            torch.stack(list(cat.values())),
        )
    return found


def photograph(model: ImageModel) -> dict[str, Tensor]:
    """A cat that ships with scikit-image, and what ``nonequilibrium inpaint`` makes of it: named
    images (c, h, w) uint8.
    """
    picture = torch.from_numpy(np.ascontiguousarray(pictures.chelsea()[6:294:9, 96:384:9])).movedim(
        -1, 0
    )
    known = read_mask("centre", (3, 32, 32))
    filled = inpaint(
        model, picture[None], known, list(range(SAMPLES)), n_steps=min(THIN, model.params.n_steps)
    )
    return {"the picture": picture} | sheet(picture, known, filled[:, 0])


def load(reports: Path | str) -> Measured:
    """What the command wrote; raises MeasuredError, with the remedy."""
    try:
        return Measured.load(reports, NAME)
    except MeasuredError as error:
        raise MeasuredError(
            f"{str(error).split(';')[0]}; `nonequilibrium {NAME}` measures it"
        ) from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium restorations``."""
    parser.add_argument(
        "--outputs",
        type=Path,
        default=Path("reports"),
        help="where metrics/ and measured/ are; reports",
    )


def run(options: argparse.Namespace) -> None:
    """Measure, or say which data set is not here and leave what there is."""
    absent = [name for name in ("mnist", "cifar10") if not present(name)]
    if absent:
        print(
            f"{NAME}: {' and '.join(absent)} not here, so nothing is measured; `make data` fetches it",
            file=sys.stderr,
        )
        return
    began = time.time()
    restorations("full").save(options.outputs, NAME)
    provenance(NAME, f"dvc repro {NAME}", SEED, began, options.outputs)
