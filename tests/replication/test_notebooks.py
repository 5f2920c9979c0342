"""Notebooks with parameters: what is legal gives a result, what is not gets one sentence before any
work.
"""

import matplotlib
import nbformat
import papermill
import pytest
from matplotlib import pyplot

from replication.__main__ import main
from replication.files import ROOT, OutputError
from replication.pages import notebooks


def run_here(notebook, **given):
    """Run a notebook's code cells in this process, which is quicker than a kernel; returns their
    names.
    """
    names = {}
    matplotlib.use("agg")
    for cell in nbformat.read(ROOT / f"notebooks/{notebook}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            names |= given if "parameters" in cell.metadata.get("tags", []) else {}
    pyplot.close("all")
    return names


@pytest.mark.parametrize("changes", [{"n_steps": 2}, {"n_steps": 3, "noise": 0.3, "beta_1": 0.1}])
def test_legal_parameters_of_the_roll_give_results(changes, tmp_path):
    changes = changes | {"train_steps": 3, "starts": 1}
    few = {"n_heldout": 2, "n_optimum": 2, "n_samples": 2}
    run_here("pipeline/train", experiment="swiss_roll", overrides=changes, outputs=tmp_path)
    given = {"weights": tmp_path / "models/swiss_roll.safetensors", "evaluation": few}
    outputs = tmp_path / "reports"
    run_here("pipeline/measure", experiment="swiss_roll", outputs=outputs, **given)
    assert (tmp_path / "reports/metrics/swiss_roll.json").exists()


def test_a_heartbeat_of_two_steps_gives_a_result():
    few = {"n_steps": 2, "train_steps": 3}
    assert len(run_here("pipeline/train", experiment="heartbeat", overrides=few)["curve"])


@pytest.mark.parametrize("outputs", ["file", "file/x/y", "folder"])
def test_outputs_that_cannot_be_written_are_refused_before_the_work(outputs, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/figures").touch()
    monkeypatch.setattr(
        notebooks.papermill, "execute_notebook", lambda *_, **__: pytest.fail("work began")
    )
    with pytest.raises(OutputError, match="is not a folder"):
        notebooks.execute("train", {"outputs": str(tmp_path / outputs)})


def test_reports_that_is_a_file_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "reports").touch()
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(
        notebooks.papermill, "execute_notebook", lambda *_, **__: pytest.fail("work began")
    )
    with pytest.raises(OutputError, match="reports is not a folder"):
        notebooks.execute("train", {})


@pytest.mark.parametrize(
    "cell, kernel, message",
    [
        (
            "import os; os.kill(os.getpid(), 9)",
            "python3",
            "x: DeadKernelError: Kernel died",
        ),
        ("1 / 0", "python3", "x: ZeroDivisionError: division by zero"),
        ("1", "julia-0", "x: NoSuchKernel: "),
    ],
)
def test_a_notebook_that_cannot_go_on_gets_one_sentence(
    cell, kernel, message, tmp_path, monkeypatch, capsys
):
    written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    written.metadata["kernelspec"] = {"name": kernel, "language": "python", "display_name": kernel}
    nbformat.write(written, tmp_path / "x.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    assert main(["notebook", "x"]) == 1
    assert [line for line in capsys.readouterr().err.splitlines() if "error:" in line][
        0
    ].startswith(f"error: {message}")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"nbformat": 4, "nbformat_minor": 5, "cells": 5}', "\0"]
)
def test_a_broken_notebook_gets_one_sentence(content, tmp_path, monkeypatch, capsys):
    (tmp_path / "x.ipynb").write_text(content)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    assert main(["notebook", "x"]) == 1
    assert "x.ipynb is not a notebook" in capsys.readouterr().err


def test_a_module_that_the_kernel_lacks_is_told_with_the_kernel_s_python(
    tmp_path, monkeypatch, capsys
):
    """A kernel specification of another environment is a common cause."""
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/elsewhere/python", "-m", "ipykernel_launcher"]}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    def lacking(*_, **__):
        told = "No module named 'replication'"
        raise papermill.PapermillExecutionError(0, 1, "import", "ModuleNotFoundError", told, [])

    monkeypatch.setattr(papermill, "execute_notebook", lacking)
    assert main(["notebook", "00_forty_lines"]) == 1
    said = capsys.readouterr().err
    assert f"the kernel python3 in {spec.parent} runs /elsewhere/python" in said
