"""The theory's numbers: reports/metrics/theory.json and posteriors.json, minutes on one core."""

from __future__ import annotations

from pathlib import Path

import torch

from nonequilibrium.files import save_contents
from replication.files import to_json
from replication.theory import differences, schedules, theory, weighted


def run(reports: Path, profile: str = "full") -> None:
    """Compute both and write them into ``reports``/metrics."""
    torch.set_num_threads(1)
    numbers = theory.theory(profile) | {"schedules": schedules.schedules(profile)}
    numbers |= {"differences": differences.differences(profile)}
    posteriors = theory.posteriors(profile) | {"particles": weighted.weighted(profile)}
    records = {"theory": numbers, "posteriors": posteriors}
    texts = {reports / f"metrics/{name}.json": to_json(n).encode() for name, n in records.items()}
    save_contents(texts)
