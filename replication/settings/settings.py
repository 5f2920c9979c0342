"""Settings: the defaults, then what params.yaml says, then what a run changes."""

import dataclasses
from pathlib import Path
from typing import Any

from nonequilibrium.errors import ParameterError
from replication.settings.fields import check_name, read_value, shown
from replication.settings.registry import EXPERIMENTS, PARAMS, SECTIONS, section


def check(name: str, values: dict):
    """The parameters of section ``name``: ``values``, else defaults; raises ParameterError."""
    kind: Any = SECTIONS[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in values:
        check_name(f"{name}: parameter", key, fields)
    for key, field in fields.items():
        if key not in values and field.default is dataclasses.MISSING:
            raise ParameterError(f"{name}: parameter {key!r} is missing")
    read = {k: read_value(f"{name}.{k}", v, **fields[k].metadata) for k, v in values.items()}
    settings = kind(**read)
    if conflict := settings.conflict():
        raise ParameterError(f"{name}: {conflict}")
    return settings


def load(name: str, overrides: dict | None = None, path: Path = PARAMS, cut: dict | None = None):
    """A section of params.yaml, with ``cut``, then ``overrides``, on top; raises ParameterError."""
    check_name("section", name, SECTIONS)
    if not isinstance(overrides or {}, dict):
        raise ParameterError(f"overrides are {shown(overrides)}; they must be like {{seed: 1}}")
    return check(name, section(name, path) | (cut or {}) | (overrides or {}))


def quick(experiment: str, overrides: dict | None = None):
    """The same experiment cut down to seconds of training, with ``overrides`` on top."""
    check_name("experiment", experiment, EXPERIMENTS)
    full, cut = load(experiment, overrides), dict(EXPERIMENTS[experiment].quick)
    for name in {"n_steps", "train_steps"} & cut.keys():
        cut[name] = min(cut[name], getattr(full, name))
    return load(experiment, overrides, cut=cut)


def evaluation(experiment: str, profile: str = "full", overrides: dict | None = None):
    """How ``experiment`` is measured: as params.yaml says, or ``quick``; raises ParameterError."""
    check_name("experiment", experiment, EXPERIMENTS)
    check_name("profile", profile, ["quick", "full"])
    declared = EXPERIMENTS[experiment]
    cut = declared.quick_evaluation if profile == "quick" else {}
    return load(declared.evaluation, overrides, cut=cut)


def profile(name: str, which: str) -> dict:
    """What params.yaml's ``profiles`` say of ``name``, quick or full; raises ParameterError."""
    profiles = section("profiles")[name]
    check_name("profile", which, profiles)
    return profiles[which]
