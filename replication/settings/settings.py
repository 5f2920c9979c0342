"""Settings: the defaults, then what params.yaml says, then what a run changes."""

from __future__ import annotations

from pathlib import Path

from nonequilibrium.errors import ParameterError
from replication.settings.fields import check_name, checked, shown
from replication.settings.registry import EXPERIMENTS, PARAMS, SECTIONS, section


def check(name: str, values: dict):
    """The parameters of a section from a mapping of names to values; raises ParameterError."""
    check_name("section", name, SECTIONS)
    return checked(SECTIONS[name], name, values)


def load(name: str, overrides: dict | None = None, path: Path = PARAMS):
    """Parameters of a section of params.yaml, with ``overrides`` on top; raises ParameterError."""
    check_name("section", name, SECTIONS)
    return check(name, on_top(section(name, path), overrides))


def quick(experiment: str, overrides: dict | None = None):
    """The same experiment cut down to seconds of training, with ``overrides`` on top."""
    check_name("experiment", experiment, EXPERIMENTS)
    full, cut = load(experiment, overrides), dict(EXPERIMENTS[experiment].quick)
    for name in {"n_steps", "train_steps"} & cut.keys():
        cut[name] = min(cut[name], getattr(full, name))
    return load(experiment, on_top(cut, overrides))


def evaluation(experiment: str, profile: str = "full", overrides: dict | None = None):
    """How ``experiment`` is measured: as params.yaml says, or ``quick``; raises ParameterError."""
    check_name("experiment", experiment, EXPERIMENTS)
    check_name("profile", profile, ["quick", "full"])
    its = EXPERIMENTS[experiment]
    cut = its.quick_evaluation if profile == "quick" else {}
    return load(its.evaluation, on_top(cut, overrides))


def profile(name: str, which: str) -> dict:
    """What params.yaml's ``profiles`` say of ``name``, quick or full; raises ParameterError."""
    profiles = section("profiles")[name]
    check_name("profile", which, profiles)
    return profiles[which]


def on_top(values: dict, overrides: dict | None) -> dict:
    """``values`` with ``overrides`` in their place; raises ParameterError if these are none."""
    if not isinstance(overrides or {}, dict):
        told = f"overrides are {shown(overrides)}; they must be names with values"
        raise ParameterError(f"{told}, as in {{seed: 1}}")
    return values | (overrides or {})
