"""Settings by keyword: defaults for those that are not given, each value of its default's kind."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from nonequilibrium.errors import ParameterError

LARGEST = 2**31 - 1  # of a whole number
KINDS = {int: f"a whole number from 0 to {LARGEST}", float: "a finite number"}
KINDS |= {bool: "true or false", str: "text"}


def completed(defaults: Mapping, given: Mapping) -> SimpleNamespace:
    """``given`` and the defaults of the rest, as attributes; raises ParameterError."""
    for name, value in given.items():
        if name not in defaults:
            raise ParameterError(f"{name!r} is unknown; it must be one of {', '.join(defaults)}")
        kind = type(defaults[name])
        fits = isinstance(value, bool) == (kind is bool)
        fits = fits and isinstance(value, int | float if kind is float else kind)
        if fits and kind in (int, float):
            fits = math.isfinite(value) if kind is float else 0 <= value <= LARGEST
        if not fits:
            raise ParameterError(f"{name} is {value!r}; it must be {KINDS[kind]}")
    return SimpleNamespace(**{**defaults, **given})


def chosen(name: str, value: str, options: Mapping[str, Any]) -> Any:
    """What ``options`` has for ``value``; raises ParameterError, which names the setting."""
    if value not in options:
        raise ParameterError(f"{name} is {value!r}; it must be one of {', '.join(options)}")
    return options[value]
