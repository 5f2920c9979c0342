"""Draw every figure and write every page again from what was measured.

nonequilibrium report
"""

from __future__ import annotations

import argparse

from replication.files import ROOT
from replication.pages.notebooks import NOTEBOOKS, REPORT, execute


def run(_: argparse.Namespace) -> None:
    """Run the notebooks of all subjects, then the report."""
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        execute(path.stem, {"outputs": "reports"})
    execute("benchmarks", {"outputs": "reports"})
    print(execute(REPORT, {}).relative_to(ROOT))
