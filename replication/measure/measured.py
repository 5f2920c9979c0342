"""What measuring gives: numbers, tables and arrays."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from safetensors.torch import load, save
from torch import Tensor

from nonequilibrium.errors import Refusal, one_line
from nonequilibrium.files import save_contents
from replication.files import to_json


@dataclass
class Measured:
    """numbers: the contract of reports/metrics. tables and arrays: by name."""

    numbers: dict
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def add(self, part: "Measured") -> None:
        """Join ``part``; where both have a dict of numbers by one name, its entries are joined."""
        for key, value in part.numbers.items():
            joined = isinstance(value, dict)
            self.numbers[key] = self.numbers.get(key, {}) | value if joined else value
        self.tables.update(part.tables)
        self.arrays.update(part.arrays)

    def save(self, reports: Path, experiment: str) -> None:
        """Write metrics/<experiment>.json and measured/<experiment>/ into ``reports``.

        Equal contents give equal bytes. A number that does not exist (NaN, infinity) is null.
        """
        folder = reports / "measured" / experiment
        numbers = json.loads(json.dumps(self.numbers), parse_constant=lambda _: None)
        arrays = save({name: value.contiguous() for name, value in self.arrays.items()})
        contents = {reports / "metrics" / f"{experiment}.json": to_json(numbers).encode()}
        for name, table in self.tables.items():
            contents[folder / f"{name}.csv"] = table.to_csv(index=False).encode()
        save_contents(contents | {folder / "arrays.safetensors": arrays})

    @classmethod
    def load(cls, reports: Path | str, experiment: str) -> "Measured":
        """Read what ``save`` wrote; raises Refusal, with the remedy."""
        folder = Path(reports) / "measured" / experiment
        try:
            numbers = (Path(reports) / "metrics" / f"{experiment}.json").read_text(encoding="utf-8")
            tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
            arrays = load((folder / "arrays.safetensors").read_bytes())
            return cls(json.loads(numbers), tables, arrays)
        except Exception as error:  # three libraries' readers, which raise many kinds
            reason, remedy = one_line(error), f"`dvc repro measure@{experiment}` measures it"
            raise Refusal(f"{folder} holds no measurements ({reason}); {remedy}") from None
