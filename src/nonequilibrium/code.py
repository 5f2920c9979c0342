"""Which code a stage of the pipeline needs, and a digest of it that comments, docstrings and formatting leave alone.

    nonequilibrium code

writes ``.code/<stage>.txt``, a line a module: its name and its digest. A stage depends on its file, so that a change of code makes
stale what it should, and a change of prose nothing.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from nonequilibrium import _HOME
from nonequilibrium.files import PACKAGE, ROOT, code_digest, save_contents

CODE = ROOT / ".code"
COMMANDS = {"data": ["nonequilibrium.data.fetch"]}  # stages that run no notebook
EVERY_NOTEBOOK = ["nonequilibrium.report.notebooks"]  # executes it
EVERY_EXPERIMENT = ("train", "measure")  # notebooks that run once an experiment
# What frames an executed notebook changes none of its numbers, and a new frame is not worth an hour of measuring: only the report
# depends on it. The other pages get it when their stages next run.
FRAME, REPORT = "nonequilibrium.report.page", "08_report"
# An experiment's stages depend on its own declaration, not on those of the others. Of the report they depend on what runs them alone:
# a colour in the figure of a training curve is not worth a training.
REGISTER = "nonequilibrium.experiment.registry"
RUNS = ("nonequilibrium.report", "nonequilibrium.report.notebooks", "nonequilibrium.report.stages")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package: {dotted name: file}."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str) -> set[str]:
    """The package's modules that ``source`` imports, anywhere in it; a name of the package itself stands for its home module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module == "nonequilibrium":
                found |= {f"nonequilibrium.{_HOME[alias.name]}" for alias in node.names if alias.name in _HOME}
    return found & modules().keys()


def needed(start: Iterable[str], closed: Iterable[str] = ()) -> list[str]:
    """All modules that the modules ``start`` need, themselves included, sorted. closed: modules whose own imports do not count."""
    found, new = set(), set(start)
    while new:
        found |= new
        new = {
            name for module in new - {*closed} for name in imports(modules()[module].read_text(encoding="utf-8"))
        } - found
    return sorted(found)


def digest(path: Path) -> str:
    """Of a module and of the templates that lie beside it under its name, see ``files.code_digest``."""
    return code_digest([path, *path.parent.glob(f"{path.stem}.*.j2")])


def notebook_code(path: Path) -> str:
    """The code cells of a notebook as one program, without the lines that only IPython understands."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def manifest(start: Iterable[str], but: Iterable[str] = (), closed: Iterable[str] = ()) -> str:
    """A line for each module that ``start`` needs, ``but`` for some: its name and its digest. closed: see ``needed``."""
    return "".join(f"{name} {digest(modules()[name])}\n" for name in needed(start, closed) if name not in but)


def declared(its) -> set[str]:
    """The package's modules that the entry ``its`` of the register takes something from."""
    values = [getattr(its, each.name) for each in dataclasses.fields(its)]
    for value in values:
        if isinstance(value, functools.partial):
            values += [value.func, *value.args, *value.keywords.values()]
    return {str(getattr(value, "__module__", None)) for value in values} & modules().keys()


def stages() -> dict[str, str]:
    """What ``.code`` holds: {stage: text}. The notebooks ``train`` and ``measure`` have a text for each experiment."""
    from nonequilibrium.experiment.registry import EXPERIMENTS  # here, because it brings PyTorch

    texts = {name: manifest(start) for name, start in COMMANDS.items()}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        start = sorted(imports(notebook_code(path))) + EVERY_NOTEBOOK
        if path.stem not in EVERY_EXPERIMENT:
            texts[path.stem] = manifest(start, but=() if path.stem == REPORT else (FRAME,))
            continue
        for name, its in EXPERIMENTS.items():
            texts[f"{path.stem}_{name}"] = _of_experiment(path, name, its, start)
    return texts


def _of_experiment(path: Path, name: str, its, start: list[str]) -> str:
    """What a stage of one experiment depends on: its code, its notebook's and its declaration.

    Training images takes up to hours, so it depends on what data set it is alone: it runs when parameters change, and by force.
    """
    from nonequilibrium.data.sources import DATA_SETS

    if path.stem == "train" and its.images:
        return f"{its.data} {hashlib.sha256(repr(DATA_SETS[its.data]).encode()).hexdigest()}\n"
    if path.stem == "measure":
        start = [*start, its.measure, "nonequilibrium.report.stages"]
    draw = {module for module in modules() if module.startswith("nonequilibrium.report.")} - set(RUNS)
    # What the register imports for the other experiments is no part of this one.
    its_modules = manifest([*start, *declared(its)], but={REGISTER, *draw}, closed=(REGISTER,))
    cells, entry = (hashlib.sha256(text.encode()).hexdigest() for text in (notebook_code(path), repr(its)))
    return f"{its_modules}{path.name} {cells}\n{REGISTER}[{name!r}] {entry}\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium code`` takes no words."""


def run(_: argparse.Namespace) -> None:
    """Write the digests of the code that every stage needs."""
    save_contents({CODE / f"{name}.txt": text.encode() for name, text in stages().items()})
