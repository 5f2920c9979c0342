"""Settings that state which values they allow; a wrong name or value gets one sentence."""

import dataclasses
import difflib
import re
from dataclasses import MISSING, field
from functools import partial
from typing import ClassVar, dataclass_transform

import yaml

from nonequilibrium.errors import ParameterError, one_line
from replication.files import is_path

SEED = 2**31 - 1  # the largest
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def number(low, high, default=MISSING, kind=float):
    """A field whose value must lie in [low, high]; without a default it must be given."""
    return field(default=default, metadata={"low": low, "high": high, "kind": kind})


def one_of(*choices, default=MISSING, kind=str):
    """A field whose value must be one of ``choices``; without any, a name or a path."""
    return field(default=default, metadata={"kind": kind, "choices": choices})


whole, flag = partial(number, kind=int), partial(one_of, kind=bool)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Settings:
    """A section of params.yaml: a frozen dataclass of such fields."""

    evaluation: ClassVar[type]  # of parameters: the kind of section by which they are measured

    def __init_subclass__(cls):
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def conflict(self) -> str | None:
        """A sentence about values that do not go together, or None."""


def shown(value) -> str:
    """``repr(value)`` on one line, short enough for a sentence."""
    return " ".join(f"{value!r:.80}".split())


def nearest(name, known) -> str | None:
    """The one of ``known`` that ``name`` most likely means, or None."""
    wanted, *plains = (re.sub(r"[\s_.-]+", "_", str(word)[:100].lower()) for word in (name, *known))
    parts = [word for word in plains if word.startswith(wanted) or word.endswith(wanted)]
    near = parts if len(parts) == 1 else difflib.get_close_matches(wanted, plains, n=1) or parts
    return list(known)[plains.index(near[0])] if near and wanted else None


def check_name(kind: str, name: str, known) -> None:
    """Raises ParameterError unless ``name`` is in ``known``; suggests the nearest."""
    if name not in (known := list(known)):
        near, allowed = nearest(name, known), f"it must be one of {', '.join(known)}"
        allowed = f"did you mean {near!r}?" if near else allowed
        raise ParameterError(f"{kind} {shown(name)} is unknown; {allowed}")


class _Loader(yaml.SafeLoader):
    """Also refuses a name that stands twice in a mapping."""

    def construct_mapping(self, node, deep=False):
        names: list = []
        for key, _ in node.value:
            if key.value in names:
                message = f"the name {shown(key.value)} stands twice, again"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            names.append(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str | bytes, label: str):
    """The value of YAML ``text``; raises ParameterError, which begins with ``label``."""
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # of a syntax error the problem and its line; else of any kind
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f" in line {mark.line + 1}" if mark else ""
        message = f"{problem or one_line(error)[:100]}{place}"
    raise ParameterError(f"{label} is not YAML: {message}")


def overrides(items: list[str]) -> dict:
    """Items NAME=VALUE as a mapping; lists and mappings are read as YAML, others stay text."""
    given: dict = {}
    for item in items:
        name, _, value = (part.strip() for part in item.partition("="))
        if "=" not in item or not name or name in given:
            wrong = "is given twice" if name in given else "is not of the form NAME=VALUE"
            raise ParameterError(f"parameter {shown(item)} {wrong}")
        label = f"parameter {shown(name)}: the value {shown(value)}"
        given[name] = read_yaml(value, label) if value[:1] in ("[", "{") else value
    return given


def as_number(value, kind=float):
    """The number that a text spells (``1e-5``, ``+3``, ``1_000``); any other value unchanged."""
    try:
        value = float(value) if isinstance(value, str) else value
        return kind(value) if kind(value) == value and not isinstance(value, bool) else value
    except (ValueError, TypeError, OverflowError):
        return value


def read_value(name: str, value, kind: type, choices=(), low=0, high=0):
    """``value`` converted to ``kind``; raises ParameterError unless a field may have it."""
    given = shown(value)
    if kind is bool:
        value, allowed = WORDS.get(str(value).lower(), value), "true or false"
        fits = isinstance(value, bool)
    elif kind is str:
        near = nearest(value, choices)
        allowed = f"one of {', '.join(choices)}" if choices else "a name or a path"
        allowed += f"; did you mean {near!r}?" if near else ""
        fits = value in choices if choices else isinstance(value, str) and is_path(value)
    else:
        value = as_number(value, kind)
        allowed = f"a {'whole ' if kind is int else ''}number from {low:.12g} to {high:.12g}"
        fits = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
    if not fits:
        raise ParameterError(f"{name} is {given}; it must be {allowed}")
    return value
