"""What measuring an experiment leaves for those who draw and explain it: numbers, tables and arrays, in a folder of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from safetensors.torch import load, save
from torch import Tensor

from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import save_together, to_json


class MeasuredError(Refusal, ValueError):
    """A folder that does not hold what was measured."""


@dataclass
class Measured:
    """numbers: the contract of reports/metrics. tables: by name. arrays: tensors by name."""

    numbers: dict
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write numbers.json, a CSV a table and arrays.safetensors into ``folder``; equal contents give equal bytes."""
        contents = {"numbers.json": to_json(self.numbers).encode()}
        contents |= {f"{name}.csv": table.to_csv(index=False).encode() for name, table in self.tables.items()}
        contents["arrays.safetensors"] = save({name: value.contiguous() for name, value in self.arrays.items()})
        save_together({folder / name: (lambda path, raw=raw: path.write_bytes(raw)) for name, raw in contents.items()})

    @classmethod
    def load(cls, folder: Path | str) -> Measured:
        """What ``save`` wrote; raises MeasuredError, with the remedy, where it is not there or not whole."""
        folder = Path(folder)
        try:
            numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
            tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
            return cls(numbers, tables, load((folder / "arrays.safetensors").read_bytes()))
        except Exception as error:  # three libraries' readers, which raise many kinds
            raise MeasuredError(f"{folder} holds no measurements ({one_line(error)}); `dvc repro` makes them") from None
