"""Which digit each image of MNIST or of scikit-learn's digits shows, in the order of
``images.load_images``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from replication.data.images import DataError, present
from replication.data.sources import DATA, DATA_SETS
from replication.settings.fields import check_name

HEADER = 8  # bytes of an idx file of labels before the first one
DIGITS = 10


def _mnist(folder: Path) -> tuple[Tensor, Tensor]:
    def read(part: str) -> Tensor:
        return torch.frombuffer(
            bytearray((folder / f"{part}-labels-idx1-ubyte").read_bytes()[HEADER:]),
            dtype=torch.uint8,
        )

    return read("train").long(), read("t10k").long()


def _digits(_: Path) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    target = torch.from_numpy(load_digits().target).long()
    return target[:1500], target[1500:]


LABELS = {"mnist": _mnist, "digits": _digits}


def load_labels(name: str, data: Path = DATA) -> tuple[Tensor, Tensor]:
    """(train, test) labels, int64 from 0 to 9, of a data set by name; raises DataError if it must
    be fetched first or is damaged.
    """
    check_name("data set", name, LABELS)
    if not present(name, data):
        raise DataError(f"{name} is not in {data}; `make data` fetches it")
    return LABELS[name](DATA_SETS[name].path(data) if name in DATA_SETS else data)
