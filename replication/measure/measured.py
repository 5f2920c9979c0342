"""What measuring an experiment leaves for those who draw and explain it: numbers, tables and
arrays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from safetensors.torch import load, save
from torch import Tensor

from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import save_contents
from replication.files import to_json


class MeasuredError(Refusal, ValueError):
    """A folder that does not hold what was measured."""


@dataclass
class Measured:
    """numbers: the contract of reports/metrics. tables: by name. arrays: tensors by name."""

    numbers: dict
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def save(self, reports: Path, experiment: str) -> None:
        """Write metrics/<experiment>.json and measured/<experiment>/ (a CSV a table,
        arrays.safetensors) into ``reports``.

        Equal contents give equal bytes.
        """
        folder = reports / "measured" / experiment
        contents = {reports / "metrics" / f"{experiment}.json": to_json(self.numbers).encode()}
        contents |= {
            folder / f"{name}.csv": table.to_csv(index=False).encode()
            for name, table in self.tables.items()
        }
        arrays = {name: value.contiguous() for name, value in self.arrays.items()}
        contents[folder / "arrays.safetensors"] = save(arrays)
        save_contents(contents)

    @classmethod
    def load(cls, reports: Path | str, experiment: str) -> Measured:
        """What ``save`` wrote; raises MeasuredError, with the remedy, where it is not there or not
        whole.
        """
        folder = Path(reports) / "measured" / experiment
        try:
            numbers = json.loads(
                (Path(reports) / "metrics" / f"{experiment}.json").read_text(encoding="utf-8")
            )
            tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
            return cls(numbers, tables, load((folder / "arrays.safetensors").read_bytes()))
        except Exception as error:  # three libraries' readers, which raise many kinds
            remedy = f"`dvc repro measure@{experiment}` measures it"
            raise MeasuredError(
                f"{folder} holds no measurements ({one_line(error)}); {remedy}"
            ) from None
