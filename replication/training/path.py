"""From the paper's configuration to the chosen one, one change at a time, in two orders.

nonequilibrium path cifar10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nonequilibrium.bound.bound import bits, mean_se, sampled_bound
from replication.files import ROOT, check_writable
from replication.measure.measured import Measured
from replication.measure.metrics import seeded
from replication.settings.fields import check_name
from replication.settings.registry import section
from replication.settings.settings import load
from replication.training.train import train

ORDERS = {"forward": 1, "backward": -1}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium path``."""
    parser.add_argument("path", help=", ".join(section("paths")))
    parser.add_argument("--outputs", type=Path, default=ROOT / "reports", help="for the results")


def run(options: argparse.Namespace) -> None:
    """Train every configuration of the path and measure it on images set aside from training.

    Each order of the changes begins as stated and ends as chosen. tables: path, a row for each
    configuration, with K and its standard error in bits per pixel. arrays: K, (rows, images), by
    which configurations are compared image by image. Both are written after each training.
    """
    check_name("path", options.path, section("paths"))
    path, name = section("paths")[options.path], f"path_{options.path}"
    check_writable(options.outputs / "metrics" / f"{name}.json")
    rows, K, known = [], [], {}
    for order, direction in ORDERS.items():
        labels = list(path["changes"])[::direction]
        for count in range(len(labels) + 1):
            taken = frozenset(labels[:count])
            if taken not in known:
                known[taken] = held_out(path, [path["changes"][label] for label in sorted(taken)])
            K.append(known[taken])
            mean, error = mean_se(K[-1])
            change = labels[count - 1] if count else "as stated"
            rows.append({"order": order, "change": change, "K": mean, "K_se": error})
            numbers = {"base": path["base"], "images": path["images"], "n": len(K[-1])}
            tables = {"path": pd.DataFrame(rows)}
            Measured(numbers, tables, {"K": torch.stack(K).float()}).save(options.outputs, name)


def held_out(path: dict, changes: list[dict]) -> Tensor:
    """K of images set aside, (n,) in bits per pixel, after a training on ``path["images"]``."""
    settings = {name: str(value) for change in changes for name, value in change.items()}
    batch = int(settings.get("batch", load(path["base"]).batch))
    params = load(path["base"], settings | {"train_steps": str(path["images"] // batch)})
    model, _ = train(path["base"], params, ROOT / ".checkpoints", log_every=params.train_steps)
    x0 = model.x0(model.validation[: path["held_out"]], seeded(1))
    with torch.no_grad():
        kernel = model.kernel()
    chain = kernel, model.reverse(kernel), x0, seeded(2)
    bound = sampled_bound(*chain, path["draws"], model.proposal(), block=100)
    return bits(bound.per_example) / model.pixels
