"""Draw every figure and write every page again from what was measured."""

from __future__ import annotations

import argparse

from replication.files import ROOT
from replication.pages.notebooks import NOTEBOOKS, REPORT, execute


def run(_: argparse.Namespace) -> None:
    """Run the notebooks of all subjects, then the report."""
    subjects = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
    for notebook in (*subjects, "benchmarks"):
        execute(notebook, {"outputs": "reports"})
    print(execute(REPORT, {}).relative_to(ROOT))
