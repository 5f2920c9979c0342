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

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError

from nonequilibrium.errors import ParameterError, Refusal, one_line
from nonequilibrium.files import save_atomically
from replication.files import ROOT
from replication.pages import page
from replication.settings.fields import check_name, overrides
from replication.settings.values import as_number, shown

NOTEBOOKS = ROOT / "notebooks"
OUTPUTS = (
    "metrics",
    "measured",
    "figures",
    "models",
    "reports",
    "reports/plots",
)  # folders that notebooks write to
REPORT = "08_report"


class NotebookError(Refusal, RuntimeError):
    """A notebook that did not run to its end."""


class Refused(NotebookError):
    """A notebook that did not begin its work, because a parameter is not allowed."""

    status = 2


def source(notebook: str) -> Path:
    """The file of a notebook by name, with or without folder and ending; raises ParameterError,
    NotebookError.
    """
    name = re.sub(r"^(.*[/\\])?notebooks[/\\]|\.ipynb$", "", notebook)
    check_name("notebook", name, sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
    path = NOTEBOOKS / f"{name}.ipynb"
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
    """``parameters`` with numbers in any notation made numbers; raises ParameterError for a wrong
    name or kind of value.

    The default says the kind: a number, a text or a mapping. Where it is None, a path belongs, for
    some a mapping of paths.
    """
    result = {}
    for name, value in parameters.items():
        check_name(f"{notebook}: parameter", name, declared)
        default, wrong = declared[name], None
        if isinstance(default, (int, float)):
            value = (
                as_number(value)
                if isinstance(value, str) and as_number(value) is not None
                else value
            )
            wrong = (
                "a number"
                if isinstance(value, bool) or not isinstance(value, (int, float))
                else None
            )
        elif isinstance(default, dict):
            wrong = None if isinstance(value, dict) else "a mapping, as in {seed: 1}"
        elif isinstance(default, str):
            wrong = None if isinstance(value, str) else "text"
        elif value is not None:
            paths = value.values() if isinstance(value, dict) and name == "weights" else [value]
            wrong = (
                None
                if all(isinstance(path, (str, Path)) and str(path) for path in paths)
                else "a path"
            )
            value = str(value) if isinstance(value, Path) else value
        if wrong:
            raise ParameterError(
                f"{notebook}: parameter {name!r} is {shown(value)}; it must be {wrong}"
            )
        result[name] = value
    return result


def check_folder(folder: Path, inside: tuple[str, ...] = ()) -> None:
    """Raises NotebookError unless files can be written into ``folder`` and the folders ``inside``
    it, which need not exist yet.
    """
    for path in (folder, *(folder / name for name in inside)):
        above = next(p for p in (path, *path.parents) if p.exists() or p.is_symlink())
        if not above.is_dir():
            raise NotebookError(
                f"{above} is not a folder, so that nothing can be written to {path}"
            )
    try:
        tempfile.TemporaryFile(dir=next(p for p in (folder, *folder.parents) if p.exists())).close()
    except OSError as error:
        raise NotebookError(f"nothing can be written to {folder}: {error.strerror}") from None


def folder_for(outputs: str | Path | None) -> Path | None:
    """The folder that a notebook's ``outputs`` names, None for None; raises ParameterError,
    NotebookError if it cannot be one.
    """
    if outputs is None:
        return None
    if not isinstance(outputs, (str, Path)) or not str(outputs):
        raise ParameterError(f"outputs is {shown(outputs)}; it must be a folder")
    folder = Path(outputs).expanduser().resolve()
    check_folder(folder, OUTPUTS)
    return folder


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
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", name):
        raise ParameterError(
            f"the result's name is {shown(name)}; it must be of letters, digits, - and _, at most 100"
        )
    check_folder(ROOT / "reports", ("notebooks", "provenance"))
    if parameters.get("outputs") is not None:
        folder_for(ROOT / Path(parameters["outputs"]).expanduser())
    began = time.time()
    # Threads gain nothing on networks this small, and without them the numbers do not depend on how
    # many cores there are.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
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
    name = name or notebook
    is_report = notebook == REPORT
    html = page.render(result, is_report, base=NOTEBOOKS)
    target = ROOT / "reports" / ("index.html" if is_report else f"notebooks/{name}.html")
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
        help="a parameter; VALUE is read as YAML",
    )
    parser.add_argument(
        "--as", dest="name", metavar="NAME", help="name of the result, if not the notebook's"
    )


def run(options: argparse.Namespace) -> None:
    """Run one notebook."""
    declared = declared_parameters(source(options.notebook))
    texts = [
        name for name, default in declared.items() if default is None or isinstance(default, str)
    ]
    parameters = overrides(options.p, texts)
    execute(options.notebook, parameters, options.name)
