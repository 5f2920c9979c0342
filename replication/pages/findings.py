"""What the stages left in reports/ and models/, read in one place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from safetensors import safe_open

from replication.data.sources import DATA_SETS
from replication.settings.registry import EXPERIMENTS

MINUS = str.maketrans("-", "−")


@dataclass
class Findings:
    """Mappings by experiment. What has not been measured, trained or drawn is in none of them.

    numbers: the contract of reports/metrics. K_per_example: bits per pixel of each held-out image,
    in the order of the official file.
    curves: training curves, columns step, K, for images also seconds, K_validation. cards: how the
    weights were made.
    records: how the numbers were made. seeds: K of several training seeds of each toy.
    absent: data sets that are not on this machine, so that the numbers about them are those
    committed with the code. benchmarks: what `make bench` measured, by part.
    """

    folder: Path
    numbers: dict = field(default_factory=dict)
    K_per_example: dict = field(default_factory=dict)
    curves: dict = field(default_factory=dict)
    cards: dict = field(default_factory=dict)
    records: dict = field(default_factory=dict)
    seeds: dict = field(default_factory=dict)
    absent: list = field(default_factory=list)
    benchmarks: dict = field(default_factory=dict)

    def stale(self, name: str) -> bool:
        """Whether the numbers of an experiment are those of other weights than the ones in models/."""
        measured, here = (
            self.numbers[name].get("weights_sha256"),
            self.cards.get(name, {}).get("sha256"),
        )
        return None not in (measured, here) and measured != here

    def gain(self, name: str, over: str) -> tuple[float, float] | None:
        """By how much K of ``name`` exceeds K of ``over``, image by image: mean and standard error,
        bits per pixel.
        """
        pair = [self.K_per_example[one] for one in (name, over) if one in self.K_per_example]
        if len(pair) < 2 or len(pair[0]) != len(pair[1]):
            return None
        difference = pair[0].double() - pair[1].double()
        return float(difference.mean()), float(difference.std()) / len(difference) ** 0.5

    def minutes_to(self, name: str, level: float) -> float | None:
        """Minutes of training after which K on the images set aside first reached ``level`` bits
        per pixel; None if never.
        """
        if (curve := self.curves.get(name)) is None:
            return None
        passed = curve[curve["K_validation"] >= level]
        return passed["seconds"].iloc[0] / 60 if len(passed) else None


def read_json(path: Path) -> dict:
    """The JSON in ``path``, an empty mapping if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _all(folder: Path, pattern: str, names) -> dict:
    """{name: the JSON in the file that ``pattern`` names for it}, without those that are not there."""
    return {
        name: content for name in names if (content := read_json(folder / pattern.format(name)))
    }


def load(reports: Path, models: Path | None = None) -> Findings:
    """Read ``reports`` and ``models`` (by default the folder beside it)."""
    curves = {name: reports / "plots" / f"{name}_training.csv" for name in EXPERIMENTS}
    found = Findings(
        reports,
        numbers=_all(reports, "metrics/{}.json", EXPERIMENTS),
        curves={name: pd.read_csv(path) for name, path in curves.items() if path.exists()},
        cards=_all(models or reports.parent / "models", "{}.json", EXPERIMENTS),
        records=_all(reports, "provenance/measure_{}.json", EXPERIMENTS),
        seeds=read_json(reports / "metrics" / "seeds.json"),
        benchmarks=read_json(reports / "benchmarks.json"),
    )
    for name in found.numbers:
        path = reports / "measured" / name / "arrays.safetensors"
        if path.exists():  # only this of the arrays: the pictures beside it are large
            with safe_open(path, "pt") as arrays:
                if "K_per_example" in arrays.keys():
                    found.K_per_example[name] = arrays.get_tensor("K_per_example")
                elif "scores" in arrays.keys():  # of the model, and of what it is compared with
                    found.K_per_example[name] = arrays.get_tensor("scores")[0]
    sets = dict.fromkeys(
        its.data for its in EXPERIMENTS.values() if its.data in DATA_SETS
    )  # the others are drawn
    found.absent = [
        data
        for data in sets
        if not read_json(reports / "data" / f"{data}.json").get("present", False)
    ]
    return found


def number(value: float, digits: int) -> str:
    """The value with so many digits after the point, a true minus sign before it."""
    return f"{value:.{digits}f}".translate(MINUS)


def with_error(value: float, error: float | None, digits: int) -> str:
    """``value ± error``, or the value alone."""
    return number(value, digits) + ("" if error is None else f" ± {number(error, digits)}")
