"""Run a notebook with checked parameters and write its page; equal runs give equal bytes."""

import argparse
import ast
import builtins
import os
import re
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import matplotlib
import nbformat
import papermill
from jupyter_client.kernelspec import get_kernel_spec

from nonequilibrium.errors import ParameterError, Refusal, one_line
from nonequilibrium.files import save_contents
from replication.files import ROOT, check_writable, folder_for, is_path
from replication.pages import page
from replication.settings.fields import SEED, as_number, check_name, overrides, read_value, shown

NOTEBOOKS = ROOT / "notebooks"
REPORT = "report"


def source(notebook: str) -> Path:
    """The file of a notebook by name, with or without folder and ending; raises ParameterError."""
    name = re.sub(r"^(.*[/\\])?(notebooks|pipeline)[/\\]|\.ipynb$", "", notebook)
    paths = {path.stem: path for path in NOTEBOOKS.rglob("*.ipynb")}
    check_name("notebook", name, sorted(paths))
    return paths[name]


def checked(path: Path, parameters: dict) -> dict:
    """``parameters`` with the types of the literals in the notebook's own cell; raises Refusal."""
    try:
        nbformat.validate(nbformat.read(path, as_version=4))
        declared = papermill.inspect_notebook(path)
    except Exception as error:  # no JSON, no notebook, no permission: errors of many kinds
        raise Refusal(f"{path} is not a notebook: {one_line(error)[:200]}") from None
    values = {}
    for name, value in parameters.items():
        check_name(f"{path.stem}: parameter", name, declared)
        label, default = f"{path.stem}: parameter {name!r}", declared[name]["default"]
        values[name] = as_default(label, value, ast.literal_eval(default))
    return values


def as_default(label: str, value, default):
    """``value`` with the type of ``default``; raises ParameterError, which begins with ``label``.

    A default of None stands for a path, of weights also for a mapping of paths.
    """
    if isinstance(default, dict):
        if not isinstance(value, dict):
            raise ParameterError(f"{label} is {shown(value)}; it must be a mapping, as {{seed: 1}}")
        return value
    if default is not None:
        return read_value(label, value, type(default), low=0, high=SEED)
    if value in ("null", "None", "~", "", None):
        return None
    several = isinstance(value, dict) and label.endswith("'weights'")
    for path in map(str, value.values() if several else [value]):
        if not is_path(path) or as_number(path) != path:
            wanted = f"it must be a path, such as ./{path}"
            raise ParameterError(f"{label} is {shown(value)}; {wanted}")
    return str(value) if isinstance(value, Path) else value


def execute(notebook: str, parameters: dict, name: str | None = None) -> Path:
    """Execute a notebook with parameters in the repository's root; returns the HTML file.

    name: of the result in reports/notebooks, the notebook's own by default. The report, without
    code, is reports/index.html. Nothing is written unless the whole notebook succeeds. Raises
    ParameterError on a name or a value that is not allowed, Refusal on a failure.
    """
    path, began = source(notebook), time.time()
    notebook, parameters = path.stem, checked(path, parameters)
    name, is_report = notebook if name is None else name, notebook == REPORT
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        allowed = "at most 100 letters, digits, - and _"
        raise ParameterError(f"the result's name is {shown(name)}; it must be {allowed}")
    target = ROOT / "reports" / ("index.html" if is_report else f"notebooks/{name}.html")
    check_writable(target, ROOT / "reports" / "provenance" / "file")
    if parameters.get("outputs") is not None:
        folder_for(ROOT / Path(parameters["outputs"]).expanduser())
    # No number depends on how many cores there are, and no figure on anybody's settings.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["MATPLOTLIBRC"] = matplotlib.get_data_path()
    options = {"cwd": str(ROOT), "progress_bar": False, "stderr_file": sys.stderr}
    with tempfile.TemporaryDirectory() as folder:
        executed = f"{folder}/{path.name}"
        try:
            papermill.execute_notebook(str(path), executed, parameters, **options)
        except papermill.PapermillExecutionError as error:  # a sentence, not two tracebacks
            kind = f"{error.ename}: " if hasattr(builtins, error.ename) else ""
            message = f"{notebook}: {kind}{' '.join(error.evalue.split())}"
            if error.ename == "ModuleNotFoundError":  # whose Python is it?
                kernel = get_kernel_spec("python3")
                message += f"; the kernel python3 in {kernel.resource_dir} runs {kernel.argv[0]}"
            raise Refusal(message) from None
        except Exception as error:  # a kernel that is not there or is killed, a full disk, and more
            raise Refusal(f"{notebook}: {type(error).__name__}: {one_line(error)}") from None
        result = nbformat.read(executed, as_version=4)
    for number, cell in enumerate(result.cells):  # without random ids and standard error
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    html = page.render(result, is_report, NOTEBOOKS)
    save_contents({target: html.encode()})
    print(f"{name}: {time.time() - began:.0f} s", file=sys.stderr)
    return target


def arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``nonequilibrium notebook``."""
    add = parser.add_argument
    add("notebook", help="name in notebooks/, without .ipynb")
    add("-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter to change")
    add("--as", dest="name", metavar="NAME", help="name of the result, if not the notebook's")


def run(options: argparse.Namespace) -> None:
    """Run one notebook."""
    if not (ROOT / ".code").exists():  # a copy in which DVC runs one stage alone
        import_module("replication.stale").run(options)
    execute(options.notebook, overrides(options.p), options.name)
