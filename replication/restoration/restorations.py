"""Posteriors on images (section 2.5): restorations, digits of a wanted class, and the average (9).

    nonequilibrium measure restorations

needs the data sets, the weights in models/, and two and a half hours on one core. Quick, it takes
models trained for seconds on images that ship with scikit-learn.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from skimage import data as pictures
from torch import Tensor

from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from replication.data.images import load_images, load_labels, present
from replication.files import ROOT, check_writable
from replication.measure.measure import threads, trained
from replication.measure.measured import Measured
from replication.measure.metrics import provenance
from replication.restoration.classes import guided_digits
from replication.restoration.inpaint import SAMPLES, THIN, centre, inpaint, sheet
from replication.restoration.likelihoods import likelihoods
from replication.restoration.ways import restored
from replication.settings.settings import profile as sizes_of

NAME, SEED = "restorations", 7


def restorations(profile: str) -> Measured:
    """All studies, "quick" or "full". Raises ParameterError, DataError."""
    sizes = sizes_of(NAME, profile)

    @cache
    def model_of(name: str) -> ImageModel:
        path = ROOT / "models" / f"{name}.safetensors"
        model = load_weights(path, name) if profile == "full" else trained(name)
        assert isinstance(model, ImageModel), "all of them are image experiments"
        return model

    found = Measured({"profile": profile, "seed": SEED, "models": {}, "averages": {}})
    with threads(1):
        model = model_of(sizes["digits"]["model"])
        images, labels = load_images(model.params.data), load_labels(model.params.data)
        found.add(guided_digits(model, images, labels, sizes["digits"], SEED))
        found.numbers["classes"]["data"] = images.title
        for name, (n, counts, steps) in sizes["averages"].items():
            model = model_of(name)
            images = load_images(model.params.data)
            found.numbers["averages"][name] = likelihoods(model, images, n, counts, steps, SEED)
        for name, restoring in sizes["restored"].items():
            model, found.numbers["models"][name] = model_of(name), restoring.pop("title")
            images = load_images(model.params.data)
            found.add(restored(model, images, SimpleNamespace(**restoring), SEED, name))
            found.numbers[name]["data"] = images.title
        cat = photograph(model_of("cifar10_unet"))
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


def run(reports: Path) -> None:
    """Measure, or say which data set is missing and leave what there is."""
    if absent := [name for name in ("mnist", "cifar10") if not present(name)]:
        missing = f"{' and '.join(absent)} not here, so nothing is measured; `make data` fetches it"
        print(f"{NAME}: {missing}", file=sys.stderr)
        return
    began, metrics = time.time(), reports / "metrics" / f"{NAME}.json"
    folder = reports / "measured" / NAME
    check_writable(metrics, folder / "file", reports / "provenance" / f"{NAME}.json")
    restorations("full").save(reports, NAME)
    provenance(NAME, f"dvc repro {NAME}", SEED, began, reports)
    print(f"{metrics} and {folder} are written")
