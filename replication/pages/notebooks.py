"""Run a notebook with parameters (papermill), after checking their names, and write its page.

    nonequilibrium notebook 01_swiss_roll -p reports=reports -p outputs=reports

leaves reports/notebooks/01_swiss_roll.html. Equal runs give equal bytes: papermill's time stamps
and random cell ids are taken out.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import nbformat
import papermill

from nonequilibrium.errors import ParameterError, Refusal, one_line
from nonequilibrium.files import save_atomically
from replication.files import ROOT, check_writable, folder_for, is_path
from replication.pages import page
from replication.settings.fields import SEED, as_number, check_name, overrides, read_value, shown

NOTEBOOKS = ROOT / "notebooks"
REPORT = "report"


class NotebookError(Refusal, RuntimeError):
    """A notebook that did not run to its end."""


def source(notebook: str) -> Path:
    """The file of a notebook by name, with or without folder and ending; raises ParameterError."""
    name = re.sub(r"^(.*[/\\])?(notebooks|pipeline)[/\\]|\.ipynb$", "", notebook)
    paths = {path.stem: path for path in NOTEBOOKS.rglob("*.ipynb")}
    check_name("notebook", name, sorted(paths))
    return paths[name]


def declared_parameters(path: Path) -> dict:
    """Names and default values of a notebook's ``parameters`` cell; None for a default that is more
    than a literal. Raises NotebookError for what is no notebook.
    """
    declared = {}
    try:
        nbformat.validate(nbformat.read(path, as_version=4))
        parameters = papermill.inspect_notebook(path)
    except Exception as error:  # no JSON, no notebook, no permission: errors of many kinds
        raise NotebookError(f"{path} is not a notebook: {one_line(error)[:200]}") from None
    for name, parameter in parameters.items():
        try:
            declared[name] = ast.literal_eval(parameter["default"])
        except (ValueError, SyntaxError):
            declared[name] = None
    return declared


def checked(label: str, value, default):
    """``value`` as the kind of ``default`` has it; raises ParameterError, which begins with
    ``label``. Where the default is None, a path belongs, for weights also a mapping of paths.
    """
    if default is None:
        several = isinstance(value, dict) and label.endswith("'weights'")
        paths = value.values() if several else [value]
        if value in ("null", "None", "~", "", None):
            return None
        if not all(is_path(str(path)) and as_number(str(path)) == str(path) for path in paths):
            raise ParameterError(f"{label} is {shown(value)}; it must be a path, such as ./{value}")
        return str(value) if isinstance(value, Path) else value
    if not isinstance(default, dict):
        return read_value(label, value, type(default), low=0, high=SEED)
    if not isinstance(value, dict):
        raise ParameterError(f"{label} is {shown(value)}; it must be a mapping, like {{seed: 1}}")
    return value


def execute(notebook: str, parameters: dict, name: str | None = None) -> Path:
    """Execute a notebook with parameters in the repository's root; returns the HTML file.

    name: of the result in reports/notebooks, the notebook's own by default. The report, without
    code, is reports/index.html. Nothing is written unless the whole notebook succeeds. Raises
    ParameterError on a name or a value that is not allowed, NotebookError on a failure.
    """
    path, began = source(notebook), time.time()
    notebook, declared = path.stem, declared_parameters(path)
    for key in parameters:
        check_name(f"{notebook}: parameter", key, declared)
    parameters = {
        key: checked(f"{notebook}: parameter {key!r}", value, declared[key])
        for key, value in parameters.items()
    }
    name, is_report = notebook if name is None else name, notebook == REPORT
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        allowed = "at most 100 letters, digits, - and _"
        raise ParameterError(f"the result's name is {shown(name)}; it must be {allowed}")
    target = ROOT / "reports" / ("index.html" if is_report else f"notebooks/{name}.html")
    check_writable(target, ROOT / "reports" / "provenance" / "file")
    if parameters.get("outputs") is not None:
        folder_for(ROOT / Path(parameters["outputs"]).expanduser())
    # Threads gain nothing on networks this small, and without them the numbers do not depend on how
    # many cores there are. Nor do figures depend on anybody's settings.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["MATPLOTLIBRC"] = matplotlib.get_data_path()
    options = {"progress_bar": False, "stderr_file": sys.stderr}
    with tempfile.TemporaryDirectory() as folder:
        executed = f"{folder}/{path.name}"
        try:
            papermill.execute_notebook(str(path), executed, parameters, cwd=str(ROOT), **options)
        except papermill.PapermillExecutionError as error:  # a sentence, not two tracebacks
            kind = f"{error.ename}: " if hasattr(builtins, error.ename) else ""
            told = f"{notebook}: {kind}{' '.join(error.evalue.split())}"
            raise NotebookError(told) from None
        except Exception as error:  # a kernel that is not there or is killed, a full disk, and more
            raise NotebookError(f"{notebook}: {type(error).__name__}: {one_line(error)}") from None
        result = nbformat.read(executed, as_version=4)
    for number, cell in enumerate(result.cells):  # without random ids and standard error
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    html = page.render(result, is_report, NOTEBOOKS)
    save_atomically(target, lambda path: path.write_text(html, encoding="utf-8"))
    print(f"{name}: {time.time() - began:.0f} s", file=sys.stderr)
    return target


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium notebook``."""
    add = parser.add_argument
    add("notebook", help="name in notebooks/, without .ipynb")
    add("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter to change")
    add("--as", dest="name", metavar="NAME", help="name of the result, if not the notebook's")


def run(options: argparse.Namespace) -> None:
    """Run one notebook."""
    execute(options.notebook, overrides(options.p), options.name)
