"""The pins, the pipeline file and the notebooks as they are committed."""

import importlib.metadata
import re
import sys

import nbformat
import pytest
import yaml

from replication.files import ROOT


def pins(lines):
    return dict(
        re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line).groups()
        for line in lines
        if line and line[0] not in "#-"
    )


PINNED = ("requirements.txt", "requirements-test.txt")
LINES = [line for name in PINNED for line in (ROOT / name).read_text().splitlines()]


def test_environment_and_requirements_pin_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [entry for entry in environment if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment if isinstance(entry, dict)]
    assert pip == ["-r requirements-test.txt", "-e ."] and "-r requirements.txt" in LINES
    assert len(pins(LINES)) == sum("==" in line for line in LINES), "a package is pinned twice"
    assert "python=3.11" in conda
    assert 'requires-python = ">=3.11.5"' in (ROOT / "pyproject.toml").read_text()


def test_what_runs_here_is_what_is_pinned():
    for name, version in pins(LINES).items():
        assert importlib.metadata.version(name).split("+")[0] == version, name


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_are_committed_without_outputs_and_declare_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert notebook.metadata.kernelspec.name == "python3"


def test_training_needs_no_notebook_or_plotting_library():
    """A machine with an accelerator and no notebooks must be able to import what trains."""
    import subprocess

    program = (
        "import sys\n"
        "for name in 'papermill nbformat dvc seaborn IPython pandas pooch PIL'.split():\n"
        "    sys.modules[name] = None\n"
        "import replication.training.train, nonequilibrium.model.weights"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
