"""The commands ``measure`` and ``report``: notebooks of the pipeline run by name, outside the
pipeline.

nonequilibrium measure heartbeat
nonequilibrium report
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from nonequilibrium.training.distributed import first
from replication.data.images import present
from replication.files import ROOT
from replication.pages.notebooks import REPORT, execute
from replication.settings.fields import check_name
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import evaluation

RESTORATION = "10_restoration"  # draws what several experiments' models restored


def measure_arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium measure``."""
    parser.add_argument("experiment", help=", ".join(EXPERIMENTS))
    parser.add_argument(
        "--weights", type=Path, help="trained weights; models/<experiment>.safetensors"
    )
    parser.add_argument(
        "--outputs", type=Path, help="where metrics/ and measured/ are; the repository's reports"
    )


def measure(options: argparse.Namespace) -> None:
    """Measure trained weights on held-out data and write metrics/ and measured/, or say that the
    data set is not here.
    """
    name = options.experiment
    check_name("experiment", name, EXPERIMENTS)
    its = EXPERIMENTS[name]
    if its.images and not present(its.data):
        print(
            f"{name}: {its.data} is not here, so nothing is measured; `make data` fetches it",
            file=sys.stderr,
        )
        return
    weights = (
        options.weights.absolute() if options.weights else Path("models") / f"{name}.safetensors"
    )
    outputs = options.outputs.absolute() if options.outputs else Path("reports")
    if (
        not first()
    ):  # torchrun: the first process runs the notebook, and the others share what it measures
        room = importlib.import_module(
            "replication.measure.measure"
        )  # by name, as the notebook has it
        room.measure(name, room.trained(name, weights), evaluation(name))
        return
    given = {
        "experiment": name,
        "profile": "full",
        "weights": str(weights),
        "outputs": str(outputs),
    }
    execute("measure", given, f"measure_{name}")


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium report`` takes no words."""


def report(_: argparse.Namespace) -> None:
    """Draw every figure and write every page again from what was measured."""
    for notebook in sorted({its.notebook for its in EXPERIMENTS.values()} | {RESTORATION}):
        execute(notebook, {"reports": "reports", "outputs": "reports"})
    print(execute(REPORT, {"outputs": "reports"}).relative_to(ROOT))
