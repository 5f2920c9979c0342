"""How a cost grows with a size: c·n^e, fitted in logarithms, and what it predicts beyond what was
measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nonequilibrium.errors import Refusal


class GrowthError(Refusal, ValueError):
    """Sizes or costs to which no power can be fitted."""


@dataclass(frozen=True)
class Growth:
    """cost ≈ factor · size^exponent. se: standard error of the exponent, from the spread about the
    line; 0 for two points.
    """

    factor: float
    exponent: float
    se: float

    def cost(self, size: float) -> float:
        """What a size costs by this law."""
        return self.factor * size**self.exponent

    def times(self, more: float) -> float:
        """How many times the cost rises where the size rises ``more`` times."""
        return more**self.exponent


def fitted(sizes: list[float], costs: list[float]) -> Growth:
    """The law by least squares in logarithms. Raises GrowthError without two different sizes, or
    unless all are positive.
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise GrowthError(
            f"the sizes are {sizes} and the costs {costs}; each cost needs a size, all must be "
            "positive, and at least two sizes must differ"
        )
    x, y = np.log(sizes), np.log(costs)
    spread = float(((x - x.mean()) ** 2).sum())
    exponent = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    rest = y - y.mean() - exponent * (x - x.mean())
    se = math.sqrt(float((rest**2).sum()) / (len(x) - 2) / spread) if len(x) > 2 else 0.0
    return Growth(math.exp(float(y.mean()) - exponent * float(x.mean())), exponent, se)
