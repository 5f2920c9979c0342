"""Run a notebook with parameters (papermill), after checking their names, and keep a normalised
result.

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
from typing import cast

import matplotlib
import nbformat
import papermill
from nbclient.exceptions import DeadKernelError

from nonequilibrium.errors import ParameterError, Refusal, one_line
from nonequilibrium.files import save_atomically
from replication.files import ROOT, check_writable, folder_for, is_path
from replication.pages import page
from replication.settings.fields import SEED, as_number, check_name, overrides, read_value, shown

NOTEBOOKS = ROOT / "notebooks"
REPORT = "report"


class NotebookError(Refusal, RuntimeError):
    """A notebook that did not run to its end."""


class Refused(NotebookError):
    """A notebook that did not begin its work, because a parameter is not allowed."""

    status = 2


def source(notebook: str) -> Path:
    """The file of a notebook by name, with or without folder and ending; raises ParameterError,
    NotebookError.
    """
    name = re.sub(r"^(.*[/\\])?(notebooks|pipeline)[/\\]|\.ipynb$", "", notebook)
    paths = {path.stem: path for path in sorted(NOTEBOOKS.rglob("*.ipynb"))}
    check_name("notebook", name, paths)
    path = paths[name]
    try:
        nbformat.validate(nbformat.read(path, as_version=4))
    except (
        Exception
    ) as error:  # no JSON, no notebook, no permission: the reader's errors are of many kinds
        raise NotebookError(f"{path} is not a notebook: {one_line(error)[:200]}") from None
    return path


def declared_parameters(path: Path) -> dict:
    """Names and default values of a notebook's ``parameters`` cell; None for a default that is more
    than a literal.
    """
    cells = nbformat.read(path, as_version=4).cells
    cell = next(
        (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])), ""
    )
    try:
        lines = ast.parse(cell).body
    except SyntaxError as error:
        raise NotebookError(
            f"the parameters cell of {path} is not Python: {one_line(error)}"
        ) from None
    declared = {}
    for line in lines:
        for target in getattr(line, "targets", [getattr(line, "target", None)]):
            if isinstance(target, ast.Name):
                try:
                    declared[target.id] = ast.literal_eval(cast(ast.Assign, line).value)
                except ValueError:
                    declared[target.id] = None
    return declared


def checked(notebook: str, parameters: dict, declared: dict) -> dict:
    """``parameters`` as the kinds of their defaults have them; raises ParameterError for a wrong
    name or value. Where the default is None, a path belongs, for weights also a mapping of paths.
    """
    result = {}
    for name, value in parameters.items():
        check_name(f"{notebook}: parameter", name, declared)
        label, default = f"{notebook}: parameter {name!r}", declared[name]
        if default is None:
            value = None if value in ("null", "None", "~", "") else value
            paths = value.values() if isinstance(value, dict) and name == "weights" else [value]
            if value is not None and not all(map(names_a_path, paths)):
                told = f"{label} is {shown(value)}; it must be a path"
                raise ParameterError(f"{told}, such as ./{value}" if as_number(value) else told)
            value = str(value) if isinstance(value, Path) else value
        elif isinstance(default, dict):
            if not isinstance(value, dict):
                told = f"{label} is {shown(value)}; it must be a mapping"
                raise ParameterError(f"{told}, as in {{seed: 1}}")
        else:
            value = read_value(label, value, type(default), low=0, high=SEED)
        result[name] = value
    return result


def names_a_path(value) -> bool:
    """Whether ``value`` is a path, which a number is not."""
    text = str(value) if isinstance(value, str | Path) else ""
    return is_path(text) and isinstance(as_number(text), str)


def execute(
    notebook: str, parameters: dict, name: str | None = None, quietly: bool = False
) -> Path:
    """Execute a notebook with parameters in the repository's root; returns the HTML file.

    name: of the result in reports/notebooks, the notebook's own by default. The report is its page
        alone, without code, as reports/index.html.
    Nothing of it is written unless the whole notebook succeeds. Raises ParameterError on a name or
    a value that is not allowed, NotebookError on a failure.
    """
    path = source(notebook)
    notebook, declared = path.stem, declared_parameters(path)
    parameters = checked(notebook, parameters, declared)
    name, is_report = notebook if name is None else name, notebook == REPORT
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        told = "it must be of at most 100 letters, digits, - and _"
        raise ParameterError(f"the result's name is {shown(name)}; {told}")
    target = ROOT / "reports" / ("index.html" if is_report else f"notebooks/{name}.html")
    check_writable(target, ROOT / "reports" / "provenance" / "file")
    if parameters.get("outputs") is not None:
        folder_for(ROOT / Path(parameters["outputs"]).expanduser())
    began = time.time()
    # Threads gain nothing on networks this small, and without them the numbers do not depend on how
    # many cores there are. Nor do figures depend on anybody's settings.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["MATPLOTLIBRC"] = matplotlib.get_data_path()
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / f"{notebook}.ipynb"
        try:
            papermill.execute_notebook(
                str(path),
                str(executed),
                parameters,
                cwd=str(ROOT),
                progress_bar=False,
                stdout_file=None,
                stderr_file=None if quietly else sys.stderr,
            )
        except (
            papermill.PapermillExecutionError
        ) as error:  # the notebook's own sentence, not two tracebacks
            raise _refusal(notebook, error.ename, error.evalue) from None
        except DeadKernelError:
            raise NotebookError(
                f"{notebook}: its kernel was killed, perhaps for want of memory"
            ) from None
        except (
            Exception
        ) as error:  # no kernel of that name, one that does not start, a full disk, and more
            raise NotebookError(f"{notebook}: {type(error).__name__}: {one_line(error)}") from None
        result = normalised(nbformat.read(executed, as_version=4))
    html = page.render(result, is_report, base=NOTEBOOKS)
    save_atomically(target, lambda path: path.write_text(html, encoding="utf-8"))
    if not quietly:
        print(f"{name}: {time.time() - began:.0f} s", file=sys.stderr)
    return target


def _refusal(notebook: str, kind: str, text: str) -> NotebookError:
    """What a cell's exception becomes: a sentence of ours as it is, one of Python's with the name
    of its kind.
    """
    text = " ".join(text.split())
    if kind == ParameterError.__name__:
        return Refused(f"{notebook}: {text}")
    return NotebookError(
        f"{notebook}: {kind}: {text}" if hasattr(builtins, kind) else f"{notebook}: {text}"
    )


def normalised(notebook):
    """The executed notebook without time stamps, random ids and progress bars."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [
                o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")
            ]
    return notebook


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium notebook``."""
    parser.add_argument("notebook", help="name in notebooks/, without .ipynb")
    parser.add_argument(
        "-p",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter to change",
    )
    parser.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the result, if not the notebook's"
    )


def run(options: argparse.Namespace) -> None:
    """Run one notebook."""
    execute(options.notebook, overrides(options.p), options.name)
