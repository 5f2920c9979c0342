"""Measure trained weights on held-out data, outside the pipeline: ``nonequilibrium measure``."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from nonequilibrium.distributed import first
from nonequilibrium.errors import ParameterError
from replication.data.images import present
from replication.files import ROOT, check_writable
from replication.settings.fields import check_name
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import evaluation

BESIDE = {"restorations": "restoration.restorations", "theory": "theory.theory"}  # the modules


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``nonequilibrium measure``."""
    spacing = "measure the steps for `sample --steps` instead, and write them beside the weights"
    parser.add_argument("experiment", help=", ".join([*EXPERIMENTS, *BESIDE]))
    parser.add_argument("--weights", type=Path, help="default: models/EXPERIMENT.safetensors")
    parser.add_argument("--outputs", type=Path, help="for metrics/ and measured/; default: reports")
    parser.add_argument("--spacing", action="store_true", help=spacing)


def run(options: argparse.Namespace) -> None:
    """Write metrics/ and measured/, or say that the data set is not here."""
    name, weights, outputs = options.experiment, options.weights, options.outputs
    check_name("experiment", name, [*EXPERIMENTS, *BESIDE])
    if name in BESIDE:
        if weights or options.spacing:
            raise ParameterError(f"{name} has no options but --outputs")
        reports = outputs or ROOT / "reports"
        check_writable(*(reports / f"{place}/{name}.json" for place in ("metrics", "measured")))
        return import_module(f"replication.{BESIDE[name]}").run(reports)
    if options.spacing:
        options.model, options.weights = name, weights or ROOT / f"models/{name}.safetensors"
        sample = import_module("replication.measure.sample")
        check_writable(sample.place(options.weights))
        options.images = sample.FEW
        return sample.space(options)
    if EXPERIMENTS[name].images and not present(data := EXPERIMENTS[name].data):
        message = f"{name}: {data} is not here, so nothing is measured; `make data` fetches it"
        return print(message, file=sys.stderr)
    path = str(weights.absolute()) if weights else f"models/{name}.safetensors"
    if first():
        given = {"experiment": name, "profile": "full", "weights": path}
        given["outputs"] = str(outputs.absolute()) if outputs else "reports"
        import_module("replication.pages.notebooks").execute("measure", given, f"measure_{name}")
    else:  # torchrun: the first process runs the notebook, and the others share what it measures
        measure = import_module("replication.measure.measure")
        measure.measure(name, measure.trained(name, path), evaluation(name))
