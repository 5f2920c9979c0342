"""Every experiment, as ``params.yaml`` declares it."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from pkgutil import resolve_name

from nonequilibrium.errors import ParameterError, one_line
from replication.files import ROOT
from replication.settings import params
from replication.settings.fields import Settings, check_name, read_yaml

PARAMS = ROOT / "params.yaml"
PARTS = ("model", "law", "optimum", "draws")  # entries that name what is in the code
read_once = lru_cache(maxsize=8)(read_yaml)  # for each content of the file


def section(name: str, path: Path = PARAMS) -> dict:
    """Section ``name`` of params.yaml; raises ParameterError."""
    try:
        sections = read_once(path.read_bytes(), path.name)
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); it is part of a clone of this project"
        raise ParameterError(message) from None
    if not isinstance(sections, dict) or not isinstance(sections.get(name), dict):
        raise ParameterError(f"{path.name} has no section {name!r}")
    return deepcopy(sections[name])


def named(dotted: str) -> Callable:
    """The function of a dotted name, which is imported when it is called."""

    def call(*arguments, **settings):
        try:
            function = resolve_name(":".join(dotted.rsplit(".", 1)))
        except (ImportError, AttributeError) as error:
            raise ParameterError(f"{dotted} is not available: {one_line(error)}") from None
        return function(*arguments, **settings)

    return call


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as declared before it runs; params.yaml explains the entries."""

    title: str  # in tables
    data: str  # a law or a data set
    notebook: str  # that draws and explains it
    model: Callable  # built from its parameters
    params: type[Settings]  # of its section
    evaluation: str  # the section by which it is measured
    measure: str  # the module that measures it
    unit: str  # of K
    paper: dict = field(default_factory=dict)  # its row of Table 1
    parts: list = field(default_factory=list)  # what is measured beside K
    law: Callable | None = None  # of points, from their noise
    optimum: Callable | None = None  # the best reverse for (kernel, law), for K*
    draws: Callable | None = None  # what draws its images, where they are not fetched
    shown: dict = field(default_factory=lambda: {"offset": 4, "most": 1000})
    quick: dict = field(default_factory=dict)  # parameters with which it trains in seconds
    quick_evaluation: dict = field(default_factory=dict)  # and with which it is measured then
    code: dict = field(default_factory=dict)  # the modules of model, law, optimum and draws

    @property
    def images(self) -> bool:
        """Whether it models images, whose weights lie in models/ and whose training takes long."""
        return issubclass(self.params, params.ImageParams)


def experiment(name: str, declared: dict) -> Experiment:
    """What the entries ``declared[name]`` of params.yaml say; raises ParameterError."""
    label, entries, kinds = f"experiments.{name}", dict(declared[name]), vars(params)
    if like := entries.pop("like", None):
        check_name(f"{label}: experiment", like, declared)
        entries = declared[like] | entries
    for entry in entries:
        check_name(f"{label}: entry", entry, Experiment.__dataclass_fields__)
    parts = {part: entries[part] for part in PARTS if part in entries}
    entries["code"] = {part: dotted.rpartition(".")[0] for part, dotted in parts.items()}
    try:
        made = Experiment(**entries | {part: named(dotted) for part, dotted in parts.items()})
    except TypeError as error:  # an entry that is missing
        raise ParameterError(f"{label}: {one_line(error)}") from None
    check_name(f"{label}: params", entries["params"], kinds)
    model = partial(made.model, law=made.law) if made.law else made.model
    row = section("paper")["table_1"].get(entries.get("paper"), {})
    return replace(made, model=model, params=kinds[entries["params"]], paper=row)


DECLARED = section("experiments")
EXPERIMENTS = {name: experiment(name, DECLARED) for name in DECLARED}
SECTIONS = {name: declared.params for name, declared in EXPERIMENTS.items()} | {
    declared.evaluation: declared.params.evaluation for declared in EXPERIMENTS.values()
}
SECTIONS["mcgsm"] = params.MCGSMParams
