"""Settings by keyword: defaults for those that are not given, each value of its default's kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from nonequilibrium.errors import ParameterError

LARGEST = 2**31 - 1  # of a whole number


def completed(defaults: Mapping, given: Mapping) -> SimpleNamespace:
    """``given`` and the defaults of the rest, as attributes. Raises ParameterError for an unknown
    name and for a value of another kind: whole numbers are not negative, numbers are finite.
    """
    for name, value in given.items():
        if name not in defaults:
            raise ParameterError(f"{name!r} is unknown; it must be one of {', '.join(defaults)}")
        if not _fits(value, kind := type(defaults[name])):
            allowed = {bool: "true or false", int: f"a whole number from 0 to {LARGEST}"}
            allowed |= {float: "a finite number", str: "text"}
            raise ParameterError(f"{name} is {value!r}; it must be {allowed[kind]}")
    return SimpleNamespace(**{**defaults, **given})


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind in (bool, str):
        return type(value) is kind
    if kind is int:
        return isinstance(value, int) and 0 <= value <= LARGEST
    return isinstance(value, int | float) and math.isfinite(value)


def chosen(name: str, value: str, options: Mapping[str, Any]) -> Any:
    """What ``options`` has for ``value``. Raises ParameterError, naming the setting, if nothing."""
    if value not in options:
        raise ParameterError(f"{name} is {value!r}; it must be one of {', '.join(options)}")
    return options[value]
