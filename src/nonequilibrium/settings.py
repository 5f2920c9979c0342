"""Keyword arguments with defaults: what a model or a network is made by, each value of the kind of
its default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace

from nonequilibrium.errors import ParameterError

LARGEST = 2**31 - 1  # of a whole number


def completed(defaults: Mapping, given: Mapping) -> SimpleNamespace:
    """The values ``given``, and the defaults of the others, as attributes; raises ParameterError.

    A whole number must not be negative, a number must be finite, and a default that is None takes
    any text.
    """
    for name, value in given.items():
        if name not in defaults:
            raise ParameterError(
                f"parameter {name!r} is unknown; it must be one of {', '.join(defaults)}"
            )
        if not _fits(defaults[name], value):
            raise ParameterError(f"{name} is {value!r}; it must be {_words(defaults[name])}")
    return SimpleNamespace(**{**defaults, **given})


def _fits(default, value) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and 0 <= value <= LARGEST
    if isinstance(default, float):
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, str)


def _words(default) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return f"a whole number from 0 to {LARGEST}"
    return "a finite number" if isinstance(default, float) else "text"
