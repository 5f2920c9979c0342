"""Several ways to do one thing, timed in turn: a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Settings:
    """clock: seconds on the wall, or of all threads of this process, which other processes do not
    disturb. repeats: rounds of each.

    small: less work, for a look at whether everything runs.
    """

    clock: Callable[[], float] = time.perf_counter
    repeats: int = 15
    small: bool = False


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def seconds(way: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    way()
    return clock() - began


def in_turn(
    ways: dict[str, Callable[[], object]], its: Settings, repeats: int | None = None
) -> dict[str, dict]:
    """Each way once to warm up, then rounds of all of them, in one order and then in the other.

    Returns {way: {"seconds": spread, "ratio": spread}}; a ratio is to the first way in the same
    round.
    """
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats or its.repeats):
        for name in list(ways) if number % 2 == 0 else reversed(ways):
            taken[name].append(seconds(ways[name], its.clock))
    first = taken[next(iter(ways))]
    return {
        name: {
            "seconds": spread(its_own),
            "ratio": spread([a / b for a, b in zip(its_own, first, strict=True)]),
        }
        for name, its_own in taken.items()
    }
