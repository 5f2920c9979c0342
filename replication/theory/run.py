"""The theory's numbers: reports/metrics/theory.json and posteriors.json, minutes on one core."""

from __future__ import annotations

from pathlib import Path

import torch

from nonequilibrium.files import save_contents
from replication.files import to_json
from replication.theory import posteriors, theory


def run(reports: Path, profile: str = "full") -> None:
    """Compute both and write them into ``reports``/metrics."""
    torch.set_num_threads(1)
    equations = theory.theory(profile) | {"schedules": theory.schedules(profile)}
    of_posteriors = posteriors.posteriors(profile) | {"particles": posteriors.weighted(profile)}
    records = {"theory": equations, "posteriors": of_posteriors}
    texts = {reports / f"metrics/{name}.json": to_json(n).encode() for name, n in records.items()}
    save_contents(texts)
