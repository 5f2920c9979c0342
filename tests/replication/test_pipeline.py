"""What the pipeline's stages depend on: all the code they run, all the files they read, and nothing
that is only prose.
"""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from replication import code, reach
from replication.data.sources import DATA_SETS
from replication.files import ROOT
from replication.pages import benchmark_tables, tables
from replication.restoration.profiles import profile
from replication.settings import registry
from replication.settings.registry import EXPERIMENTS

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
RESTORATION = "10_restoration"  # draws what the command ``restorations`` measured of several experiments' models
SUBJECTS = sorted({its.notebook for its in EXPERIMENTS.values()} | {RESTORATION})
TOYS = [name for name, its in EXPERIMENTS.items() if not its.images]
THEORY = "07_theory"  # runs itself what it shows, for it needs no data and no training
OWN = "09_your_own_model"  # for people with a model of another library; no stage, for the page says nothing of ours
DIFFUSE = (
    {THEORY, OWN, "restorations"}
    | {f"measure_{name}" for name in EXPERIMENTS}
    | {f"train_{name}" for name in TOYS}
    | set(SUBJECTS)
)
FULL = profile("restorations", "full")
RESTORED = {*FULL["restored"], FULL["digits"]["model"], *FULL["averages"]}  # experiments


def stage(entry):
    return entry.get("do", entry)


def names(items):
    return [next(iter(item)) if isinstance(item, dict) else item for item in items or []]


def copied_package(folder, monkeypatch):
    """The package in a folder of its own, which ``code`` then looks at."""
    copy = folder / "nonequilibrium"
    shutil.copytree(reach.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(reach, "PACKAGE", copy)
    monkeypatch.setattr(code, "CODE", folder / "digests")
    reach.forget()
    return copy


@pytest.fixture(autouse=True)
def fresh():
    yield
    reach.forget()


def manifests():
    """What the command writes, by stage."""
    reach.forget()
    code.run(None)
    return {path.stem: path.read_text() for path in code.CODE.glob("*.txt")}


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_every_stage_depends_on_its_code_and_its_notebook():
    assert set(code.stages()) == {"data", "restorations", "08_report", THEORY, OWN, *SUBJECTS} | {
        f"{k}_{e}" for k in ("train", "measure") for e in EXPERIMENTS
    }
    assert set(NOTEBOOKS) == {"08_report", THEORY, OWN, "train", "measure", *SUBJECTS}
    wanted = {
        "fetch": {".code/data.txt"},
        "train": {
            ".code/train_${item}.txt"
        },  # of images the data set alone, so that prose and code cost no hours
        "measure": {
            ".code/measure_${key}.txt",
            "models/${key}.safetensors",
            "${item.needs}",
        },
        "subject": {".code/${item}.txt", "notebooks/${item}.ipynb", "reports/measured", "models"},
        "restorations": {
            ".code/restorations.txt",
            *(f"models/{name}.safetensors" for name in RESTORED),
            "reports/data/cifar10.json",
            "reports/data/mnist.json",
        },
        "theory": {".code/07_theory.txt", "notebooks/07_theory.ipynb"},
        "report": {
            ".code/08_report.txt",
            "notebooks/08_report.ipynb",
            "reports/measured",
            "reports/metrics",
            "models",
        },
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
        fetched = its.data in DATA_SETS  # other data are drawn
        other = "mcgsm" if its.draws else name  # what stands beside it, too
        assert of[name]["needs"] == (
            f"reports/data/{its.data}.json" if fetched else f"models/{other}.json"
        )


def test_no_stage_names_a_file_of_the_package_by_hand():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert re.findall(r"src/nonequilibrium\S*", text) == ["src/nonequilibrium"], (
        "only the stage that makes the digests"
    )


RECORDER = """
import importlib, json, sys
import torch
from replication import reach
from replication.settings import settings
from replication.settings.registry import EXPERIMENTS
from replication.measure.measure import measure, trained

name, seen = sys.argv[1], {}
files_of = {str(path): module for module, path in reach.modules().items()}


def record(frame, event, argument):
    module = files_of.get(frame.f_code.co_filename)
    if event == "call" and module:
        seen.setdefault((module, frame.f_code.co_firstlineno), frame.f_code.co_qualname.split(".")[0])


model = trained(name, None, {"train_steps": 20, "n_steps": 30})
its = settings.evaluation(name, "quick")
importlib.import_module(EXPERIMENTS[name].measure)  # what runs when a module is imported is not asked for
sys.setprofile(record)
measure(name, model, its)
sys.setprofile(None)
print(json.dumps(sorted({f"{module}.{function}" for (module, _), function in seen.items()})))
"""


@pytest.mark.parametrize("name", ["swiss_roll", "heartbeat", "mnist_dense", "cifar10"])
@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs the qualified names of running code")
def test_all_that_runs_when_an_experiment_is_measured_is_among_what_its_stage_depends_on(name):
    """The functions that Python calls, against what was found by reading."""
    command = [sys.executable, "-c", RECORDER, name]
    ran = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    listed = {line.split(" ")[0] for line in code.stages()[f"measure_{name}"].splitlines()}
    assert len(ran) > 20
    assert {
        one for one in ran if "<" not in one and not one.startswith(code.REGISTER)
    } - listed == set()


def test_a_change_of_code_reaches_every_stage_that_runs_it(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    kernels = copy / "diffusion" / "kernels.py"
    kernels.write_text(kernels.read_text().replace("(1 - beta).sqrt()", "(1 - beta) ** 0.5", 1))
    assert changed(before, manifests()) - {"08_report"} == DIFFUSE, (
        "all that diffuse; training images is by force"
    )


def test_a_colour_and_a_new_frame_of_the_pages_measure_nothing_anew(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    template = copy / "report" / "page.html.j2"
    template.write_text(template.read_text(encoding="utf-8") + "<!-- -->", encoding="utf-8")
    assert changed(before, manifests()) == {"08_report"}
    before = manifests()
    with (copy / "report" / "prose.macros.j2").open("a", encoding="utf-8") as file:
        file.write("more words")
    assert changed(before, manifests()) == {"08_report"}
    style = copy / "report" / "style.py"
    style.write_text(
        re.sub(r"#[0-9a-fA-F]{6}", "#123456", style.read_text(encoding="utf-8")), encoding="utf-8"
    )
    assert changed(before, manifests()) == {"08_report", THEORY, OWN, *SUBJECTS}, (
        "all that draws, and no training for its curve"
    )


def test_what_stages_depend_on_is_the_same_in_every_process():
    program = "from nonequilibrium import code; import json; print(json.dumps(code.stages()))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == code.stages()


def test_another_experiment_in_the_register_makes_nothing_stale(monkeypatch):
    before = code.stages()
    monkeypatch.setitem(registry.EXPERIMENTS, "another", EXPERIMENTS["heartbeat"])
    after = code.stages()
    assert after.keys() - before.keys() == {"train_another", "measure_another"}
    assert {name for name in before if before[name] != after[name]} == set()


def test_what_the_register_imports_for_another_experiment_trains_and_measures_nothing_anew(
    tmp_path, monkeypatch
):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    (copy / "data" / "another.py").write_text("class Another:\n    pass\n")
    text = (copy / "experiment" / "registry.py").read_text(encoding="utf-8")
    other = text.replace(
        "from dataclasses",
        "from nonequilibrium.data.another import Another  # noqa\nfrom dataclasses",
        1,
    )
    (copy / "experiment" / "registry.py").write_text(other, encoding="utf-8")
    reach.forget()
    assert not {
        name for name in changed(before, manifests()) if name.startswith(("train_", "measure_"))
    }


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


def test_the_report_depends_on_every_table_that_its_words_name():
    """Templates name tables by text, which no import shows."""
    templates = (ROOT / "src/nonequilibrium/report").glob("prose.*.j2")
    wanted = {
        name
        for path in templates
        for name in re.findall(r'table\("(\w+)"', path.read_text(encoding="utf-8"))
    }
    known = {line.split()[0] for line in code.stages()["08_report"].splitlines()}
    of_benchmarks = {
        f"replication.pages.benchmark_tables.{name}" for name in benchmark_tables.TABLES
    }
    assert len(wanted) > 15 and of_benchmarks <= known
    for name in wanted:
        table = getattr(tables, name)
        assert f"{table.__module__}.{table.__name__}" in known, name


def test_the_lock_file_knows_no_stage_that_is_gone():
    declared = set()
    for name, entry in STAGES.items():
        declared |= (
            {f"{name}@{item}" for item in entry["foreach"]} if "foreach" in entry else {name}
        )
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(locked) <= declared
