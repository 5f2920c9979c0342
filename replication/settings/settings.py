"""Parameters of an experiment or of its measuring: the defaults, then what params.yaml says, then
what a run changes.

A wrong name or value gets one sentence that says which, what it was and what is allowed, whether it
came from the file, the command line or a notebook.
"""

from __future__ import annotations

from pathlib import Path

from nonequilibrium.errors import ParameterError
from replication.files import ROOT
from replication.settings.fields import check_name, checked
from replication.settings.registry import EXPERIMENTS, SECTIONS
from replication.settings.values import read_yaml, shown


def check(section: str, values: dict):
    """The parameters of ``section`` from a mapping of names to values, defaults for the others;
    raises ParameterError.
    """
    check_name("section", section, SECTIONS)
    return checked(SECTIONS[section], section, values)


def load(section: str, overrides: dict | None = None, path: Path | None = None):
    """Parameters of ``section`` from params.yaml, with ``overrides`` on top; raises ParameterError."""
    return check(section, {**_section(section, path), **_mapping(overrides)})


def quick(experiment: str, overrides: dict | None = None):
    """The same experiment cut down to seconds of training, with ``overrides`` on top; raises
    ParameterError.
    """
    check_name("experiment", experiment, EXPERIMENTS)
    full, cut = load(experiment, overrides), dict(EXPERIMENTS[experiment].quick)
    for name in {"n_steps", "train_steps"} & cut.keys():
        cut[name] = min(cut[name], getattr(full, name))
    return load(experiment, {**cut, **_mapping(overrides)})


def evaluation(experiment: str, profile: str = "full", overrides: dict | None = None):
    """How ``experiment`` is measured: as params.yaml says, or ``quick``; raises ParameterError."""
    check_name("experiment", experiment, EXPERIMENTS)
    check_name("profile", profile, ["quick", "full"])
    its = EXPERIMENTS[experiment]
    cut = its.quick_evaluation if profile == "quick" else {}
    return load(its.evaluation, {**cut, **_mapping(overrides)})


def _mapping(overrides) -> dict:
    if not isinstance(overrides or {}, dict):
        raise ParameterError(
            f"overrides are {shown(overrides)}; they must be names with values, as in {{seed: 1}}"
        )
    return overrides or {}


def _section(section: str, path: Path | None) -> dict:
    """What params.yaml says of ``section``."""
    check_name("section", section, SECTIONS)
    path = path or ROOT / "params.yaml"
    try:
        sections = read_yaml(path.read_bytes())
    except FileNotFoundError:
        raise ParameterError(f"there is no {path.name} in {path.parent}") from None
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ParameterError(f"{path.name} {error}") from None
    if not isinstance(sections, dict) or not isinstance(sections.get(section), dict):
        raise ParameterError(f"{path.name} has no section {section!r}")
    return sections[section]
