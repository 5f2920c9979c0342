"""Run a notebook with parameters (papermill), after checking their names, and keep a normalised result.

    nonequilibrium notebook 01_swiss_roll -p outputs=reports -p weights=weights/swiss_roll.safetensors

leaves reports/notebooks/01_swiss_roll.html. Equal runs give equal bytes: papermill's time stamps and random cell
ids are taken out.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill

from nonequilibrium.data.images import present
from nonequilibrium.errors import Refusal
from nonequilibrium.fields import check_name
from nonequilibrium.files import ROOT, save_atomically
from nonequilibrium.params import load, overrides
from nonequilibrium.report import page

NOTEBOOKS = ROOT / "notebooks"
REPORT = "08_report"


class NotebookError(Refusal, RuntimeError):
    """A notebook that did not run to its end."""


def declared_parameters(notebook: str) -> dict[str, str]:
    """Names and default values (as source) of the ``parameters`` cell of notebooks/<notebook>.ipynb."""
    check_name("notebook", notebook, sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
    found = papermill.inspect_notebook(str(NOTEBOOKS / f"{notebook}.ipynb"))
    return {name: entry["default"] for name, entry in found.items()}


def check_injected(namespace: dict, notebook: str) -> None:
    """Raises ParameterError if papermill injected a name that the notebook does not declare (it only warns itself).

    Called by each notebook right after its parameters cell with ``globals()``. Looks once a session only, because later
    the namespace holds the notebook's own variables as well.
    """
    if namespace.get("_parameters_checked"):
        return
    ours = {"In", "Out", "get_ipython", "exit", "quit", "open", "pipeline", "nonequilibrium"}
    names = [name for name in namespace if not name.startswith("_") and name not in ours]
    declared = declared_parameters(notebook)
    for name in names:
        check_name(f"{notebook}: parameter", name, declared)
    namespace["_parameters_checked"] = True


def execute(notebook: str, parameters: dict, name: str | None = None, quietly: bool = False) -> Path:
    """Execute a notebook with parameters in the repository's root; returns the HTML file.

    name: of the result in reports/notebooks, the notebook's own by default. The report is its page alone, without
        code, as reports/index.html.
    Nothing of it is written unless the whole notebook succeeds. Raises ParameterError on an unknown name,
    NotebookError on a failure.
    """
    declared = declared_parameters(notebook)
    for given in parameters:
        check_name(f"{notebook}: parameter", given, declared)
    began = time.time()
    # Threads gain nothing on networks this small, and without them the numbers do not depend on how many cores there are.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / f"{notebook}.ipynb"
        try:
            papermill.execute_notebook(
                str(NOTEBOOKS / f"{notebook}.ipynb"),
                str(executed),
                parameters,
                cwd=str(ROOT),
                progress_bar=False,
                stdout_file=None,
                stderr_file=None if quietly else sys.stderr,
            )
        except papermill.PapermillExecutionError as error:  # the notebook's own sentence, not two tracebacks
            raise NotebookError(f"{notebook}: {error.ename}: {error.evalue}") from None
        result = normalised(nbformat.read(executed, as_version=4))
    name = name or notebook
    is_report = notebook == REPORT
    html = page.render(result, name, ROOT / "reports", is_report, base=NOTEBOOKS)
    target = ROOT / "reports" / ("index.html" if is_report else f"notebooks/{name}.html")
    save_atomically(target, lambda path: path.write_text(html, encoding="utf-8"))
    if not quietly:
        print(f"{name}: {time.time() - began:.0f} s", file=sys.stderr)
    return target


def normalised(notebook):
    """The executed notebook without time stamps, random ids and progress bars."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]
    return notebook


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of ``nonequilibrium notebook``."""
    parser.add_argument("notebook", help="name in notebooks/, without .ipynb")
    parser.add_argument(
        "-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter; VALUE is read as YAML"
    )
    parser.add_argument("--params", metavar="SECTION", help="a section of params.yaml whose entries are parameters too")
    parser.add_argument("--needs", metavar="SET", help="a data set without which nothing is run and nothing changed")
    parser.add_argument("--as", dest="name", metavar="NAME", help="name of the result, if not the notebook's")


def run(options: argparse.Namespace) -> None:
    """Run one notebook, or say that the data it needs is not here."""
    if options.needs and not present(options.needs):
        print(
            f"{options.notebook}: {options.needs} is not here, so nothing is measured; `make data` fetches it",
            file=sys.stderr,
        )
        return
    parameters = dataclasses.asdict(load(options.params)) if options.params else {}
    execute(options.notebook, parameters | overrides(options.p), options.name)
