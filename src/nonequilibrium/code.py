"""Which code a stage of the pipeline needs, and a digest of it that comments, docstrings and formatting leave alone.

    nonequilibrium code

writes ``.code/<stage>.txt``, a line a definition that the stage can reach: its name and its digest. A stage depends on its file, so
that a change of code makes stale what it should, and prose, a new function or another experiment nothing. What became stale, and
by what, is the difference between two such files.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import hashlib
import json
import types
from collections.abc import Iterable
from pathlib import Path

from nonequilibrium.files import ROOT, code_digest, save_contents
from nonequilibrium.reach import Definition, meant, modules, reached, read, uses

CODE = ROOT / ".code"
COMMANDS = {"data": ["nonequilibrium.data.fetch"]}  # stages that run no notebook
RESTORATIONS = "nonequilibrium.measure.restorations"  # a command whose experiments are those that its profiles name
EXECUTES = [("nonequilibrium.report.notebooks", "execute")]  # every notebook
MEASURES = [("nonequilibrium.report.stages", "measure")]
EVERY_EXPERIMENT = ("train", "measure")  # notebooks that run once an experiment
# What frames an executed notebook changes none of its numbers, and a new frame is not worth an hour of measuring: only the report
# depends on it. The other pages get it when their stages next run.
FRAME, REPORT = "nonequilibrium.report.page", "08_report"
# An experiment's stages depend on its own declaration, not on those of the others. Of the report they depend on what runs them alone:
# a colour in the figure of a training curve is not worth a training.
REGISTER = "nonequilibrium.experiment.registry"
RUNS = ("nonequilibrium.report", "nonequilibrium.report.notebooks", "nonequilibrium.report.stages")


def notebook_code(path: Path) -> str:
    """The code cells of a notebook as one program, without the lines that only IPython understands."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def named(program: str) -> set[Definition]:
    """The package's definitions that a program names."""
    return {one for one in uses(ast.parse(program), read(program)) if one[0]}  # and not its own


def manifest(start: Iterable[Definition], closed: Iterable[str] = (), without: Iterable[str] = ()) -> str:
    """A line for each definition that ``start`` reaches, and for the templates beside their modules. See ``reach.reached``."""
    found = reached(start, closed, without)
    lines = {f"{module}.{name}": digest for (module, name), digest in found.items()}
    for module in {module for module, _ in found}:
        path = modules()[module]
        lines |= {template.name: code_digest([template]) for template in path.parent.glob(f"{path.stem}.*.j2")}
    return "".join(f"{name} {lines[name]}\n" for name in sorted(lines))


def taken(its) -> set[Definition]:
    """The package's definitions that the values of a declaration are."""
    values = [getattr(its, each.name) for each in dataclasses.fields(its)]
    for value in values:
        if isinstance(value, functools.partial):
            values += [value.func, *value.args, *value.keywords.values()]
    pairs = ((getattr(value, "__module__", None), getattr(value, "__qualname__", None)) for value in values)
    return {one for module, name in pairs if module in modules() and name for one in meant(module, name)}


def declaration(its) -> str:
    """A declaration in words, but for what is as it is by default: a new field of the register changes no old entry."""
    values = {each.name: (getattr(its, each.name), each) for each in dataclasses.fields(its)}
    return repr([(name, _word(value)) for name, (value, each) in values.items() if value != _default(each)])


def _word(value):
    """A function by its name: in words it has the place in memory, which is another one every time."""
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, types.FunctionType) else value


def _default(each: dataclasses.Field):
    return each.default if each.default_factory is dataclasses.MISSING else each.default_factory()


def others(*names: str) -> set[str]:
    """Keys of the package's tables that belong to other experiments than ``names``: their names, data sets and parts."""
    from nonequilibrium.experiment.registry import EXPERIMENTS  # here, because it brings PyTorch

    def keys(chosen) -> set[str]:
        return {key for name in chosen for key in _keys(name, EXPERIMENTS[name])}

    return keys(EXPERIMENTS) - keys(names)


def _keys(name: str, its) -> set[str]:
    return {name, its.data, its.evaluation, *its.parts} | {value for value in its.quick.values() if type(value) is str}


def stages() -> dict[str, str]:
    """What ``.code`` holds: {stage: text}. The notebooks ``train`` and ``measure`` have a text for each experiment."""
    from nonequilibrium.experiment.registry import EXPERIMENTS

    texts = {name: manifest(one for each in start for one in meant(each, "")) for name, start in COMMANDS.items()}
    texts["restorations"] = _of_restorations()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        start = {*named(notebook_code(path)), *EXECUTES}
        if path.stem in EVERY_EXPERIMENT:
            texts |= {
                f"{path.stem}_{name}": _of_experiment(path, name, its, start) for name, its in EXPERIMENTS.items()
            }
        else:
            subjects = [name for name, its in EXPERIMENTS.items() if its.notebook == path.stem]
            frame = () if path.stem == REPORT else (FRAME,)
            texts[path.stem] = manifest(start, frame, others(*subjects) if subjects else ())
    return texts


def _of_restorations() -> str:
    """What the stage of posteriors on images depends on: its code and the declarations of the experiments it names."""
    from nonequilibrium.experiment.registry import EXPERIMENTS
    from nonequilibrium.measure.restorations import PROFILES

    full = PROFILES["full"]
    experiments = sorted({*full.restored, full.digits[0], *full.averages})
    start = {*meant(RESTORATIONS, "")} | {one for name in experiments for one in taken(EXPERIMENTS[name])}
    text = manifest(start, {REGISTER}, others(*experiments))
    for name in experiments:
        entry = hashlib.sha256(declaration(EXPERIMENTS[name]).encode()).hexdigest()
        text += f"{REGISTER}[{name!r}] {entry}\n"
    return text


def _of_experiment(path: Path, name: str, its, start: set[Definition]) -> str:
    """What a stage of one experiment depends on: its code, its notebook's and its declaration.

    Training images takes up to hours, so it depends on what data set it is alone: it runs when parameters change, and by force.
    """
    from nonequilibrium.data.sources import DATA_SETS
    from nonequilibrium.experiment.registry import SETTINGS

    if path.stem == "train" and its.images:
        if its.draws is not None:  # the code that draws the images is the data set
            return manifest(meant(its.draws.__module__, its.draws.__qualname__))
        return f"{its.data} {hashlib.sha256(repr(DATA_SETS[its.data]).encode()).hexdigest()}\n"
    start = start | taken(its)
    if path.stem == "measure":
        settings = SETTINGS[its.evaluation]
        start |= {*MEASURES, (its.measure, "measured"), (settings.__module__, settings.__qualname__)}
    draw = {module for module in modules() if module.startswith("nonequilibrium.report.")} - set(RUNS)
    text = manifest(start, {REGISTER, *draw}, others(name))
    cells, entry = (hashlib.sha256(words.encode()).hexdigest() for words in (notebook_code(path), declaration(its)))
    return f"{text}{path.name} {cells}\n{REGISTER}[{name!r}] {entry}\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium code`` takes no words."""


def run(_: argparse.Namespace) -> None:
    """Write the digests of the code that every stage needs."""
    save_contents({CODE / f"{name}.txt": text.encode() for name, text in stages().items()})
