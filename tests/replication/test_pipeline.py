"""What stages depend on: all the code they run, all the files they read, no prose."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from replication import stale
from replication.data.sources import DATA_SETS
from replication.files import ROOT
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import profile

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
SUBJECTS = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
PIPELINE = {path.stem for path in (ROOT / "notebooks/pipeline").glob("*.ipynb")}
TOYS = [name for name, its in EXPERIMENTS.items() if not its.images]
DIFFUSE = {"theory", "restorations", *SUBJECTS} - {"00_forty_lines"}
DIFFUSE |= {f"measure_{name}" for name in EXPERIMENTS} | {f"train_{name}" for name in TOYS}
FULL = profile("restorations", "full")
RESTORED = {*(FULL[study]["model"] for study in ("restored", "digits")), *FULL["averages"]}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The code in a folder of its own, which ``stale`` then looks at."""
    for name in ("src", "replication", "notebooks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    monkeypatch.setattr(stale, "ROOT", tmp_path)
    monkeypatch.setattr(
        stale, "PLACES", {"nonequilibrium": tmp_path / "src", "replication": tmp_path}
    )
    stale.read.cache_clear()
    yield tmp_path
    stale.read.cache_clear()


def changed(before):
    after = stale.stages()
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]} - {"train", "measure"}


def test_every_stage_depends_on_its_code_and_its_notebook():
    works = {f"{work}_{name}" for work in ("train", "measure") for name in EXPERIMENTS}
    assert set(stale.stages()) == {"data", "theory", "restorations"} | SUBJECTS | PIPELINE | works
    assert {its.notebook for its in EXPERIMENTS.values()} < SUBJECTS
    weights = {f"models/{name}.safetensors" for name in RESTORED}
    sets = {"reports/data/cifar10.json", "reports/data/mnist.json"}
    page = {"notebooks/pipeline/report.ipynb", "reports/figures", "reports/metrics", "models"}
    measured = {"models/${key}.safetensors", "${item.needs}"}
    wanted = {
        "fetch": {".code/data.txt"},
        "train": {".code/train_${item}.txt"},  # of images the data set alone: code costs no hours
        "measure": {".code/measure_${key}.txt"} | measured,
        "subject": {".code/${item}.txt", "notebooks/${item}.ipynb", "reports/measured", "models"},
        "restorations": {".code/restorations.txt"} | weights | sets,
        "theory": {".code/theory.txt"},
        "report": {".code/report.txt"} | page,
    }
    for name, needs in wanted.items():
        assert needs <= set(STAGES[name].get("do", STAGES[name])["deps"]), name


def test_the_pipeline_has_the_stages_of_every_experiment():
    assert STAGES["train"]["foreach"] == list(EXPERIMENTS)
    assert STAGES["subject"]["foreach"] == sorted(SUBJECTS)
    of = STAGES["measure"]["foreach"]
    settings = {name: its.evaluation for name, its in EXPERIMENTS.items()}
    assert {name: entry["settings"] for name, entry in of.items()} == settings
    for name, its in EXPERIMENTS.items():
        beside = "mcgsm" if its.draws else name
        fetched = its.data in DATA_SETS
        needs = f"reports/data/{its.data}.json" if fetched else f"models/{beside}.json"
        assert of[name]["needs"] == needs


def test_stages_replace_weights_and_no_stage_names_a_file_of_code():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert re.findall(r"(?:src|replication)/\S*", text) == ["src/nonequilibrium"]
    assert "force=true" in STAGES["train"]["do"]["cmd"] and "--force" in STAGES["mcgsm"]["cmd"]


RECORDER = """
import json, sys
from replication.settings import settings
from replication.settings.registry import EXPERIMENTS
from replication.measure.measure import measure, trained

name, files = sys.argv[1], set()


def record(frame, event, argument):
    if event == "call":
        files.add(frame.f_code.co_filename)


model = trained(name, None, {"train_steps": 20, "n_steps": 30})
sys.setprofile(record)
measure(name, model, settings.evaluation(name, "quick"))
sys.setprofile(None)
print(json.dumps(sorted(files)))
"""


@pytest.mark.parametrize("name", ["heartbeat", "mnist_dense"])
def test_all_that_runs_when_an_experiment_is_measured_is_in_what_its_stage_depends_on(name):
    """The files whose functions Python calls, against those that were found by reading."""
    command = [sys.executable, "-c", RECORDER, name]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    files = set(json.loads(run.stdout.splitlines()[-1]))
    ran = {p for p in files if p.startswith((f"{ROOT}/src/", f"{ROOT}/replication/"))}
    lines = stale.stages()[f"measure_{name}"].splitlines()
    assert len(ran) > 10
    assert ran <= {f"{ROOT}/{line.split(' ')[0]}" for line in lines}


def test_a_new_line_reaches_every_stage_that_imports_its_file_and_prose_reaches_none(copy):
    before = stale.stages()
    for path in [*copy.rglob("*.py")]:
        text = re.sub(r'"""[A-Z]', '"""Anew: X', path.read_text(encoding="utf-8"), count=1)
        path.write_bytes(("# a comment\n" + text + "\n\n").replace("\n", "\r\n").encode())
    assert changed(before) == set()
    with (copy / "src/nonequilibrium/diffusion/kernels.py").open("a") as file:
        file.write("x = 1\n")
    assert DIFFUSE <= changed(before) <= DIFFUSE | PIPELINE | {"00_forty_lines"}


def test_a_colour_makes_pages_stale_and_no_number(copy):
    before = stale.stages()
    with (copy / "replication/pages/style.py").open("a") as file:
        file.write("x = 1\n")
    drawn = changed(before)
    assert "benchmarks" in drawn and drawn <= SUBJECTS | PIPELINE


def test_what_stages_depend_on_is_the_same_in_every_process():
    program = "from replication import stale; import json; print(json.dumps(stale.stages()))"
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == stale.stages()


def test_the_lock_file_knows_no_stage_that_is_gone():
    declared = set()
    for name, entry in STAGES.items():
        declared |= {f"{name}@{item}" for item in entry.get("foreach", [])} or {name}
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(locked) <= declared
