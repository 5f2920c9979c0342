"""How soon a command answers and the package is imported, beside a bare interpreter."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import Settings, in_turn

PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "nonequilibrium --help": ["-m", "nonequilibrium", "--help"],
    "import nonequilibrium": ["-c", "import nonequilibrium"],
    "from nonequilibrium import load_weights": ["-c", "from nonequilibrium import load_weights"],
    "import torch": ["-c", "import torch"],
}


def run(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)


def measured(its: Settings) -> dict:
    """Seconds on the wall, of processes of their own."""
    return in_turn(
        {name: lambda words=words: run(words) for name, words in PROGRAMS.items()},
        Settings(),
        3 if its.small else 7,
    )
