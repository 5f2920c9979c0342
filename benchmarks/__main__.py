"""Measure what the package costs and write reports/benchmarks.json, which the report draws.

    python -m benchmarks                      # all parts, forty minutes; two processes need two
    idle cores python -m benchmarks steps --clock cpu    # one part; seconds of this process, which
    others do not disturb

Timings depend on the machine, so the pipeline never runs this; its result is committed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import time
from pathlib import Path

import torch

from benchmarks.timing import CLOCKS, Settings
from nonequilibrium.network.precision import has_bfloat16
from nonequilibrium.training.devices import keep_freed_memory
from replication.files import ROOT, commit, write_json

PARTS = ["startup", "steps", "estimators", "thinning", "growth", "processes", "tried", "reference"]


def processor() -> str:
    """The processor's name, where the system says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "parts", nargs="*", help=", ".join(PARTS) + "; all of them if none is named"
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="seconds on the wall, or of this process's threads",
    )
    parser.add_argument(
        "--small", action="store_true", help="less work, to see whether everything runs"
    )
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each timing")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "benchmarks.json")
    words = parser.parse_args()
    if wrong := set(words.parts) - set(PARTS):
        parser.error(f"there is no part {wrong.pop()}; the parts are {', '.join(PARTS)}")
    its = Settings(CLOCKS[words.clock], words.repeats, words.small)
    keep_freed_memory()
    for part in words.parts or PARTS:
        began = time.perf_counter()
        found = importlib.import_module(f"benchmarks.{part}").measured(its)
        record = {
            "commit": commit(),
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "bfloat16": has_bfloat16("cpu"),
            "clock": "wall" if part == "processes" else words.clock,
            "small": words.small,
            "seconds": round(time.perf_counter() - began),
        }
        whole = json.loads(words.out.read_text(encoding="utf-8")) if words.out.exists() else {}
        write_json(words.out, whole | {part: found | {"record": record}})
        print(f"{part}: {record['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
