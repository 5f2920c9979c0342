"""Quick metrics of every experiment, of the theory and of the restorations, compared byte by byte.

    python tests/same.py keep      # what later runs are compared with: .same/kept
    python tests/same.py           # a run now: .same/now, compared

A change that only moves code must leave every digest as it is. Takes minutes on one core.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parents[1] / ".same"


def digest(measured) -> dict[str, str]:
    """A SHA-256 for the numbers, each table and each array of ``measured``."""
    parts = {"numbers": json.dumps(measured.numbers, sort_keys=True).encode()}
    parts |= {
        f"table {name}": table.to_csv(index=False).encode()
        for name, table in measured.tables.items()
    }
    parts |= {
        f"array {name}": x.contiguous().view(torch.uint8).numpy().tobytes()
        for name, x in measured.arrays.items()
    }
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in sorted(parts.items())}


def runs() -> dict:
    """{name: what measures it}; the imports are here so that a move of code changes this function
    alone.
    """
    from replication.measure import measure
    from replication.measure.measured import Measured
    from replication.restoration import restorations
    from replication.settings.registry import EXPERIMENTS
    from replication.theory import posteriors, theory

    def numbers(function):
        return lambda: Measured(function("quick"))

    found = {name: lambda name=name: measure.quick(name)[1] for name in EXPERIMENTS}
    found |= {"theory": numbers(theory.theory), "posteriors": numbers(posteriors.posteriors)}
    found["schedules"] = numbers(theory.schedules)
    found |= {
        "weighted": numbers(posteriors.weighted),
        "restorations": lambda: restorations.restorations("quick"),
    }
    return found


def main() -> int:
    """Run what the command line names (all by default); exit status 1 if anything differs from what
    is kept.
    """
    keep, chosen = "keep" in sys.argv[1:], [word for word in sys.argv[1:] if word != "keep"]
    torch.set_num_threads(1)
    different = []
    for name, run in runs().items():
        if chosen and name not in chosen:
            continue
        found = digest(run())
        path = FOLDER / ("kept" if keep else "now") / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1))
        kept = FOLDER / "kept" / path.name
        other = json.loads(kept.read_text()) if kept.exists() else {}
        wrong = sorted(
            part for part in found.keys() | other.keys() if found.get(part) != other.get(part)
        )
        print(
            f"{name}: {'DIFFERS in ' + ', '.join(wrong) if wrong else 'same'}",
            flush=True,
        )
        different += wrong
    return bool(different)


if __name__ == "__main__":
    raise SystemExit(main())
