"""What the pipeline's stages depend on: all the code they run, all the files they read, and nothing that is only prose."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from nonequilibrium import code
from nonequilibrium.files import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


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
    """What the command writes, by notebook."""
    code.modules.cache_clear()
    code.run(None)
    return {name: (code.CODE / f"{name}.txt").read_text() for name in NOTEBOOKS}


def test_every_stage_that_runs_a_notebook_depends_on_it_and_on_its_code():
    seen = set()
    for name, entry in STAGES.items():
        run = re.search(r"\$\{run\} notebook (\w+)", stage(entry)["cmd"])
        if run:
            seen.add(run[1])
            assert {f".code/{run[1]}.txt", f"notebooks/{run[1]}.ipynb"} <= set(stage(entry)["deps"]), name
    assert seen == set(NOTEBOOKS)


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
        print(name, *[module for module in sys.modules if module.startswith("nonequilibrium.")], flush=True)
        os._exit(0)
    os.wait()
"""


def test_what_a_notebook_loads_is_among_what_its_stage_depends_on():
    """The imports as Python does them, against the imports as they were read."""
    starts = {
        name: sorted(code.imports(code.notebook_code(ROOT / "notebooks" / f"{name}.ipynb"))) + code.EVERY_NOTEBOOK
        for name in NOTEBOOKS
    }
    command = [sys.executable, "-c", LOADER, json.dumps(starts)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(NOTEBOOKS)
    for name, *loaded in map(str.split, lines):
        rooms = {module.rpartition(".")[0] for module in loaded}  # a folder's own empty __init__ says nothing
        assert len(loaded) > 5 and set(loaded) - rooms <= set(code.needed(starts[name])), name


def test_a_change_of_code_reaches_every_stage_that_runs_it(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    kernels = copy / "diffusion" / "kernels.py"
    kernels.write_text(kernels.read_text().replace("(1 - beta).sqrt()", "(1 - beta) ** 0.5", 1))
    after = manifests()
    changed = {name for name in NOTEBOOKS if before[name] != after[name]}
    assert changed == set(NOTEBOOKS) - {"08_report"}, "all that diffuse, and not the page, which only reads"


def test_a_new_frame_of_the_pages_measures_nothing_anew(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    template = copy / "report" / "page.html.j2"
    template.write_text(template.read_text(encoding="utf-8") + "<!-- -->", encoding="utf-8")
    after = manifests()
    assert {name for name in NOTEBOOKS if before[name] != after[name]} == {"08_report"}


def test_prose_formatting_and_line_ends_reach_nothing(tmp_path, monkeypatch):
    copy, before = copied_package(tmp_path, monkeypatch), manifests()
    for path in copy.rglob("*.py"):
        text = re.sub(r'"""[A-Z]', '"""Anew: X', path.read_text(encoding="utf-8"), count=1)
        path.write_bytes(("# a comment\n" + text + "\n\n").replace("\n", "\r\n").encode())
    assert manifests() == before


def test_the_report_depends_on_every_picture_that_another_stage_draws():
    shown = set(re.findall(r"\w+\.png", code.notebook_code(ROOT / "notebooks" / "08_report.ipynb")))
    own = {path.rpartition("/")[2] for path in names(STAGES["report"]["outs"])}
    declared = {path.rpartition("/")[2] for path in STAGES["report"]["deps"] if path.startswith("reports/figures/")}
    assert shown - own == declared - own


def test_whatever_a_stage_reads_of_another_is_declared():
    """Weights, metrics and records named in a command are dependencies of its stage."""
    for name, entry in STAGES.items():
        read = re.findall(r"(?:weights|models)/[\w${}]+\.safetensors", stage(entry)["cmd"])
        assert set(read) <= set(stage(entry).get("deps", [])), name


def test_the_lock_file_knows_no_stage_that_is_gone():
    declared = set()
    for name, entry in STAGES.items():
        declared |= {f"{name}@{item}" for item in entry["foreach"]} if "foreach" in entry else {name}
    locked = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert set(locked) <= declared
