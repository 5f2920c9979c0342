"""Draw every figure and write every page again from what was measured.

nonequilibrium report
"""

from __future__ import annotations

import argparse

from replication.files import ROOT
from replication.pages.notebooks import REPORT, execute
from replication.settings.registry import EXPERIMENTS

RESTORATION = "10_restoration"  # draws what several experiments' models restored


def run(_: argparse.Namespace) -> None:
    """Run the notebooks of all subjects, then the report."""
    for notebook in sorted({its.notebook for its in EXPERIMENTS.values()} | {RESTORATION}):
        execute(notebook, {"reports": "reports", "outputs": "reports"})
    print(execute(REPORT, {"outputs": "reports"}).relative_to(ROOT))
