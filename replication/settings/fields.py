"""Dataclass fields that say which values they allow, and one sentence for a name or a value that is
not allowed.

A parameter's sentence is the same whether it came from the file, the command line or a notebook.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import re
from dataclasses import MISSING, field

from nonequilibrium.errors import ParameterError
from replication.settings.values import as_flag, as_number, read_yaml, shown


def number(low, high, default=MISSING, kind=float):
    """A field whose value must lie in [low, high]; without a default it must be given."""
    return field(default=default, metadata={"low": low, "high": high, "kind": kind})


def whole(low, high, default=MISSING):
    """A whole-number field in [low, high]."""
    return number(low, high, default, int)


def flag(default=MISSING):
    """A field that must be true or false."""
    return field(default=default, metadata={"kind": bool})


def one_of(*choices, default=MISSING):
    """A field whose value must be one of ``choices``."""
    return field(default=default, metadata={"kind": str, "choices": choices})


def text(default=MISSING):
    """A field that is any text: a name that is looked up where it is used, or a path."""
    return field(default=default, metadata={"kind": str, "choices": None})


def nearest(name, known) -> str | None:
    """The one of ``known`` that ``name`` most likely means: other case, spaces for underscores, an
    abbreviation, a slip; or None.
    """

    def plain(text) -> str:
        return re.sub(r"[\s_.-]+", "_", str(text)[:100].strip().casefold())

    wanted, plains = plain(name), {plain(one): one for one in known}
    if wanted in plains:
        return plains[wanted]
    parts = [one for one in plains if wanted and (one.startswith(wanted) or one.endswith(wanted))]
    near = parts if len(parts) == 1 else difflib.get_close_matches(wanted, plains, n=1) or parts
    return plains[near[0]] if near else None


def check_name(kind: str, name: str, known) -> None:
    """Raises ParameterError unless ``name`` is in ``known``; suggests the nearest."""
    known = list(known)
    if name not in known:
        near = nearest(name, known)
        allowed = f"it must be one of {', '.join(map(str, known))}"
        if near:  # a long list is then of no use
            allowed = f"did you mean {near!r}?" + (f" {allowed}" if len(allowed) < 300 else "")
        raise ParameterError(f"{kind} {shown(name)} is unknown; {allowed}")


def overrides(items: list[str], texts=()) -> dict:
    """Command-line items NAME=VALUE as a mapping, values read as YAML, but for the names ``texts``
    a number stays as it was typed.
    """
    given = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ParameterError(f"parameter {shown(item)} is not of the form NAME=VALUE")
        if name in given:
            raise ParameterError(f"parameter {shown(name)} is given twice")
        try:
            given[name] = read_yaml(value)
        except ValueError as error:
            raise ParameterError(
                f"parameter {shown(name)}: the value {shown(value)} {error}"
            ) from None
        if name in texts and not isinstance(given[name], (str, dict, list, type(None))):
            given[name] = value.strip()
    return given


def checked(kind: type, label: str, values: dict):
    """An instance of the dataclass ``kind`` from a mapping of names to values, defaults for the
    others; raises ParameterError.

    label: what the sentence calls it.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in values:
        check_name(f"{label}: parameter", name, fields)
    missing = [
        name for name, its in fields.items() if name not in values and its.default is MISSING
    ]
    if missing:
        raise ParameterError(f"{label}: parameter {missing[0]!r} is missing")
    made = kind(
        **{
            name: _value(f"{label}.{name}", value, fields[name].metadata)
            for name, value in values.items()
        }
    )
    conflict = getattr(made, "conflict", lambda: None)()
    if conflict:
        raise ParameterError(f"{label}: {conflict}")
    return made


def _value(name: str, value, meta):
    kind, given = meta["kind"], shown(value)
    if kind is bool:
        value = as_flag(value) if isinstance(value, str) else value
        if not isinstance(value, bool):
            raise ParameterError(f"{name} is {given}; it must be true or false")
        return value
    if kind is str and meta["choices"] is None:
        if not isinstance(value, str) or not value.strip():
            raise ParameterError(f"{name} is {given}; it must be a name or a path")
        return value
    if kind is str:
        if value not in meta["choices"]:
            near = nearest(value, meta["choices"])
            hint = f"did you mean {near!r}? " if near else ""
            raise ParameterError(
                f"{name} is {given}; {hint}it must be one of {', '.join(meta['choices'])}"
            )
        return value
    words = f"{'a whole number' if kind is int else 'a number'} from {meta['low']:.12g} to {meta['high']:.12g}"
    value = as_number(value) if isinstance(value, str) else value
    numeric = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if (
        not numeric
        or not meta["low"] <= value <= meta["high"]
        or (kind is int and value != int(value))
    ):
        raise ParameterError(f"{name} is {given}; it must be {words}")
    return kind(value)
