"""What the pipeline's stages depend on: all the code they run, all the files they read, and nothing that is only prose."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from nonequilibrium import code
from nonequilibrium.experiment import registry
from nonequilibrium.experiment.registry import EXPERIMENTS
from nonequilibrium.files import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
SUBJECTS = sorted({its.notebook for its in EXPERIMENTS.values()})
TOYS = [name for name, its in EXPERIMENTS.items() if not its.images]
THEORY = "07_theory"  # runs itself what it shows, for it needs no data and no training
DIFFUSE = {THEORY} | {f"measure_{name}" for name in EXPERIMENTS} | {f"train_{name}" for name in TOYS} | set(SUBJECTS)


def stage(entry):
    return entry.get("do", entry)


def names(items):
    return [next(iter(item)) if isinstance(item, dict) else item for item in items or []]


def copied_package(folder, monkeypatch):
    """The package in a folder of its own, which ``code`` then looks at."""
    copy = folder / "nonequilibrium"
    shutil.copytree(code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", copy)
    monkeypatch.setattr(code, "CODE", folder / "digests")
    code.modules.cache_clear()
    return copy


@pytest.fixture(autouse=True)
def fresh():
    yield
    code.modules.cache_clear()


def manifests():
    """What the command writes, by stage."""
    code.modules.cache_clear()
    code.run(None)
    return {path.stem: path.read_text() for path in code.CODE.glob("*.txt")}


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_every_stage_depends_on_its_code_and_its_notebook():
    assert set(code.stages()) == {"data", "08_report", THEORY, *SUBJECTS} | {
        f"{k}_{e}" for k in ("train", "measure") for e in EXPERIMENTS
    }
    assert set(NOTEBOOKS) == {"08_report", THEORY, "train", "measure", *SUBJECTS}
    wanted = {
        "fetch": {".code/data.txt"},
        "train": {".code/train_${item}.txt"},  # of images the data set alone, so that prose and code cost no hours
        "measure": {
            ".code/measure_${key}.txt",
            "models/${key}.safetensors",
            "${item.needs}",
        },
        "subject": {".code/${item}.txt", "notebooks/${item}.ipynb", "reports/measured", "models"},
        "theory": {".code/07_theory.txt", "notebooks/07_theory.ipynb"},
        "report": {".code/08_report.txt", "notebooks/08_report.ipynb", "reports/measured", "reports/metrics", "models"},
    }
    for name, needs in wanted.items():
        assert needs <= set(stage(STAGES[name])["deps"]), name


def test_the_pipeline_has_the_stages_of_every_experiment_of_the_register():
    assert STAGES["train"]["foreach"] == list(EXPERIMENTS)
    assert STAGES["subject"]["foreach"] == SUBJECTS
    of = STAGES["measure"]["foreach"]
    assert {name: entry["settings"] for name, entry in of.items()} == {
        n: its.evaluation for n, its in EXPERIMENTS.items()
    }
    for name, its in EXPERIMENTS.items():
        assert of[name]["needs"] == (f"reports/data/{its.data}.json" if its.images else f"models/{name}.json")


def test_no_stage_names_a_file_of_the_package_by_hand():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert re.findall(r"src/nonequilibrium\S*", text) == ["src/nonequilibrium"], "only the stage that makes the digests"


LOADER = """
import importlib, json, os, sys
import matplotlib, nbconvert, papermill, scipy, seaborn, skimage, sklearn, torch  # once for all
for name, modules in json.loads(sys.argv[1]).items():
    if os.fork() == 0:  # each notebook begins with none of the package's modules
        for module in modules:
            importlib.import_module(module)
        print("|".join([name, *(m for m in sys.modules if m.startswith("nonequilibrium."))]), flush=True)
        os._exit(0)
    os.wait()
"""


def test_what_a_stage_loads_is_among_what_it_depends_on():
    """The imports as Python does them, against the imports as they were read."""
    starts = {
        name: sorted(code.imports(code.notebook_code(ROOT / "notebooks" / f"{name}.ipynb"))) + code.EVERY_NOTEBOOK
        for name in NOTEBOOKS
    }
    rooms_of = {its.measure for its in EXPERIMENTS.values()}
    starts |= {f"measure by {room}": [*starts["measure"], room] for room in rooms_of}
    command = [sys.executable, "-c", LOADER, json.dumps(starts)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(starts)
    for name, *loaded in (line.split("|") for line in lines):
        rooms = {module.rpartition(".")[0] for module in loaded}  # a folder's own empty __init__ says nothing
        assert len(loaded) > 5 and set(loaded) - rooms <= set(code.needed(starts[name])), name


def test_a_change_of_code_reaches_every_stage_that_runs_it(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    kernels = copy / "diffusion" / "kernels.py"
    kernels.write_text(kernels.read_text().replace("(1 - beta).sqrt()", "(1 - beta) ** 0.5", 1))
    assert changed(before, manifests()) - {"08_report"} == DIFFUSE, "all that diffuse; training images is by force"


def test_a_colour_and_a_new_frame_of_the_pages_measure_nothing_anew(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    template = copy / "report" / "page.html.j2"
    template.write_text(template.read_text(encoding="utf-8") + "<!-- -->", encoding="utf-8")
    assert changed(before, manifests()) == {"08_report"}
    style = copy / "report" / "style.py"
    style.write_text(re.sub(r"#[0-9a-fA-F]{6}", "#123456", style.read_text(encoding="utf-8")), encoding="utf-8")
    assert changed(before, manifests()) == {"08_report", THEORY, *SUBJECTS}, (
        "all that draws, and no training for its curve"
    )


def test_another_experiment_in_the_register_makes_nothing_stale(monkeypatch):
    before = code.stages()
    monkeypatch.setitem(registry.EXPERIMENTS, "another", EXPERIMENTS["heartbeat"])
    after = code.stages()
    assert after.keys() - before.keys() == {"train_another", "measure_another"}
    assert {name for name in before if before[name] != after[name]} == set()


def test_what_the_register_imports_for_another_experiment_trains_and_measures_nothing_anew(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    (copy / "data" / "another.py").write_text("class Another:\n    pass\n")
    text = (copy / "experiment" / "registry.py").read_text(encoding="utf-8")
    other = text.replace(
        "from dataclasses", "from nonequilibrium.data.another import Another  # noqa\nfrom dataclasses", 1
    )
    (copy / "experiment" / "registry.py").write_text(other, encoding="utf-8")
    code.modules.cache_clear()
    assert not {name for name in changed(before, manifests()) if name.startswith(("train_", "measure_"))}


def test_an_experiment_declared_otherwise_is_measured_anew(monkeypatch):
    before = code.stages()
    other = dataclasses.replace(EXPERIMENTS["mnist_conv"], parts=())
    monkeypatch.setitem(registry.EXPERIMENTS, "mnist_conv", other)
    assert changed(before, code.stages()) == {"measure_mnist_conv"}


def test_prose_formatting_and_line_ends_reach_nothing(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    for path in copy.rglob("*.py"):
        text = re.sub(r'"""[A-Z]', '"""Anew: X', path.read_text(encoding="utf-8"), count=1)
        path.write_bytes(("# a comment\n" + text + "\n\n").replace("\n", "\r\n").encode())
    assert manifests() == before


def test_the_report_depends_on_every_picture_that_another_stage_draws():
    declared = {path for path in STAGES["report"]["deps"] if path.startswith("reports/figures/")}
    assert declared == {f"reports/figures/{name}" for name in (THEORY, *SUBJECTS)}


def test_the_lock_file_knows_no_stage_that_is_gone():
    declared = set()
    for name, entry in STAGES.items():
        declared |= {f"{name}@{item}" for item in entry["foreach"]} if "foreach" in entry else {name}
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(locked) <= declared
