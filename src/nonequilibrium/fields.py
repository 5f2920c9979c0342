"""Dataclass fields that say which values they allow, and one sentence for a name or a value that is not allowed.

A parameter's sentence is the same whether it came from the file, the command line or a notebook.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import field

from nonequilibrium.errors import Refusal


class ParameterError(Refusal, ValueError):
    """A parameter that does not exist or whose value is not allowed."""

    status = 2


def number(low, high, kind=float):
    """A field whose value must lie in [low, high]."""
    return field(metadata={"low": low, "high": high, "kind": kind})


def whole(low, high):
    """A whole-number field in [low, high]."""
    return number(low, high, int)


def flag():
    """A field that must be true or false."""
    return field(metadata={"kind": bool})


def one_of(*choices):
    """A field whose value must be one of ``choices``."""
    return field(metadata={"kind": str, "choices": choices})


def check_name(kind: str, name: str, known) -> None:
    """Raises ParameterError unless ``name`` is in ``known``; suggests the nearest."""
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ParameterError(f"{kind} {name!r} is unknown; {hint}it must be one of {', '.join(known)}")


def checked(kind: type, label: str, values: dict):
    """An instance of the dataclass ``kind`` from a mapping of all its names to values; raises ParameterError.

    label: what the sentence calls it.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in values:
        check_name(f"{label}: parameter", name, fields)
    missing = [name for name in fields if name not in values]
    if missing:
        raise ParameterError(f"{label}: parameter {missing[0]!r} is missing")
    return kind(**{name: _value(f"{label}.{name}", values[name], f.metadata) for name, f in fields.items()})


def _value(name: str, value, meta):
    kind = meta["kind"]
    if kind is bool:
        if not isinstance(value, bool):
            raise ParameterError(f"{name} is {value!r}; it must be true or false")
        return value
    if kind is str:
        if value not in meta["choices"]:
            raise ParameterError(f"{name} is {value!r}; it must be one of {', '.join(meta['choices'])}")
        return value
    words = f"{'a whole number' if kind is int else 'a number'} from {meta['low']:g} to {meta['high']:g}"
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not numeric or not meta["low"] <= value <= meta["high"] or (kind is int and value != int(value)):
        raise ParameterError(f"{name} is {value!r}; it must be {words}")
    return kind(value)
