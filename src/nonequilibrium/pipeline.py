"""Run a notebook with parameters (papermill), after checking their names, and keep a normalised result.

    python -m nonequilibrium.pipeline 01_swiss_roll -p outputs=reports -p weights=weights/swiss_roll.safetensors

leaves reports/notebooks/01_swiss_roll.html. Equal runs give equal bytes: papermill's time stamps and random cell
ids are taken out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter

from nonequilibrium.bound import Bound, bits, bits_per_dim
from nonequilibrium.fetch import sha256
from nonequilibrium.images import present
from nonequilibrium.parameters import ROOT, ParameterError, check_name, load, overrides
from nonequilibrium.training import save_atomically

NOTEBOOKS = ROOT / "notebooks"
REPORT, TITLE = "08_report", "Nonequilibrium thermodynamics, replicated"


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


def run(notebook: str, parameters: dict, name: str | None = None, quietly: bool = False) -> Path:
    """Execute a notebook with parameters in the repository's root; returns the HTML file.

    name: of the result in reports/notebooks, the notebook's own by default. The report is its page alone, without
        code, as reports/index.html.
    Nothing of it is written unless the whole notebook succeeds. Raises ParameterError on an unknown name.
    """
    declared = declared_parameters(notebook)
    for given in parameters:
        check_name(f"{notebook}: parameter", given, declared)
    began = time.time()
    # Threads gain nothing on networks this small, and without them the numbers do not depend on how many cores there are.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / f"{notebook}.ipynb"
        papermill.execute_notebook(
            str(NOTEBOOKS / f"{notebook}.ipynb"),
            str(executed),
            parameters,
            cwd=str(ROOT),
            progress_bar=False,
            stdout_file=None,
            stderr_file=None if quietly else sys.stderr,
        )
        result = normalised(nbformat.read(executed, as_version=4))
    name = name or notebook
    is_report = notebook == REPORT
    exporter = HTMLExporter(exclude_input=is_report, exclude_input_prompt=is_report, exclude_output_prompt=is_report)
    html, _ = exporter.from_notebook_node(result, {"metadata": {"name": TITLE if is_report else name}})
    page = ROOT / "reports" / ("index.html" if is_report else f"notebooks/{name}.html")
    save_atomically(page, lambda path: path.write_text(html, encoding="utf-8"))
    if not quietly:
        print(f"{name}: {time.time() - began:.0f} s", file=sys.stderr)
    return page


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


def provenance(name: str, command: str, seed, began: float) -> None:
    """Record how a number was made (command, commit, seed, seconds) in reports/provenance/<name>.json."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    entry = {"command": command, "commit": commit or None, "seed": seed, "seconds": round(time.time() - began, 1)}
    write_json(ROOT / "reports" / "provenance" / f"{name}.json", entry)


def write_json(path: Path, content: dict) -> None:
    """Write JSON atomically, in a form that equal contents give equal bytes."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    save_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_csv(path: Path, table) -> None:
    """Write a pandas table as CSV atomically."""
    save_atomically(path, lambda temporary: table.to_csv(temporary, index=False))


def metrics(experiment: str, bound: Bound, L_null: float, unit: str, paper: dict, seed: int, **more) -> dict:
    """The contract of reports/metrics/<experiment>.json, in bits per ``unit``. L_null in nats."""
    K = bits(bound.K)
    return {
        "experiment": experiment,
        "unit": unit,
        "K": K,
        "K_se": bits(bound.se),
        "K_mc_se": bits(bound.mc_se),
        "L_null": bits(L_null),
        "K_minus_L_null": K - bits(L_null),
        "n_heldout": len(bound.rest),
        "seed": seed,
        "paper": paper,
        **more,
    }


def image_metrics(
    experiment: str, model, bound: Bound, L_null: float, seed: int, paper: dict | None = None, **more
) -> dict:
    """The same contract for an image model, in bits per pixel, with bits per dimension beside it. L_null in nats per image."""
    pixels, channels, sigma = model.pixels, model.network.shape[0], model.scale.sigma
    per_pixel = Bound(bound.kl / pixels, bound.rest / pixels, bound.replicates / pixels)
    result = metrics(experiment, per_pixel, L_null / pixels, "bits per pixel", paper or {}, seed)
    weights = ROOT / "models" / f"{experiment}.safetensors"
    result |= {
        "bits_per_dim": bits_per_dim(result["K"], channels, sigma),
        "bits_per_dim_se": result["K_se"] / channels,
        "sigma": sigma,
        "n_steps": model.params.n_steps,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "weights_sha256": sha256(weights) if weights.exists() else None,
        **more,
    }
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m nonequilibrium.pipeline", description="Run a notebook with parameters."
    )
    parser.add_argument("notebook", help="name in notebooks/, without .ipynb")
    parser.add_argument(
        "-p", action="append", default=[], metavar="NAME=VALUE", help="a parameter; VALUE is read as YAML"
    )
    parser.add_argument("--params", metavar="SECTION", help="a section of params.yaml whose entries are parameters too")
    parser.add_argument("--needs", metavar="SET", help="a data set without which nothing is run and nothing changed")
    parser.add_argument("--as", dest="name", metavar="NAME", help="name of the result, if not the notebook's")
    options = parser.parse_args(arguments)
    try:
        if options.needs and not present(options.needs):
            print(
                f"{options.notebook}: {options.needs} is not here, so nothing is measured; `make data` fetches it",
                file=sys.stderr,
            )
            return 0
        parameters = dataclasses.asdict(load(options.params)) if options.params else {}
        parameters |= overrides(options.p)
        run(options.notebook, parameters, options.name)
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except papermill.PapermillExecutionError as error:
        # The notebook's own sentence, not two tracebacks.
        print(f"error: {options.notebook}: {error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
