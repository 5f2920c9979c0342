"""Posteriors on images (section 2.5), all that is measured of them: restorations, digits of a
wanted class, and the average (9).

    nonequilibrium measure restorations

writes reports/metrics/restorations.json and reports/measured/restorations/. It needs the data sets
and the weights in models/, and two and a half hours on one core. Quick, as a notebook calls it, it
takes models trained for seconds on images that ship with scikit-learn.
"""

from __future__ import annotations

import argparse
import sys
import time
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
from replication.measure.images import add
from replication.measure.measure import threads, trained
from replication.measure.measured import Measured, MeasuredError
from replication.measure.metrics import provenance
from replication.restoration.classes import ClassSizes, guided_digits
from replication.restoration.inpaint import SAMPLES, THIN, inpaint, read_mask, sheet
from replication.restoration.likelihoods import likelihoods
from replication.restoration.restore import restored
from replication.restoration.ways import Sizes
from replication.settings import settings

NAME = "restorations"
SEED = 7


def restorations(profile: str, seed: int = SEED, overrides: dict | None = None) -> Measured:
    """All of it. numbers: {"profile", "seed", "models": {experiment: name}, each of them,
    "classes", "averages", "photograph"}.

    profile: "quick" or "full", in params.yaml. overrides: parameters of the quick trainings.
    Raises ParameterError, DataError.
    """
    its = settings.profile(NAME, profile)
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
        digits = its["digits"]
        model = model_of(digits.pop("model"))
        images, labels = load_images(model.params.data), load_labels(model.params.data)
        add(found, guided_digits(model, images, labels, ClassSizes(**digits), seed))
        found.numbers["classes"]["data"] = images.title
        for name, (n, counts, steps) in its["averages"].items():
            model = model_of(name)
            images = load_images(model.params.data)
            found.numbers["averages"][name] = likelihoods(model, images, n, counts, steps, seed)
        for name, sizes in its["restored"].items():
            title = sizes.pop("title")
            model = model_of(name)
            images = load_images(model.params.data)
            add(found, restored(model, images, Sizes(**sizes), seed, name))
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
            f"{str(error).split(';')[0]}; `nonequilibrium measure {NAME}` measures it"
        ) from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium measure restorations``."""
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
