"""README.md: its generated parts, and that its words hold."""

import re

import pytest
import torch
from reported import write

from replication.__main__ import COMMANDS
from replication.files import ROOT
from replication.pages import readme
from replication.pages.findings import load
from replication.settings.registry import EXPERIMENTS

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def between(text, name):
    return re.search(f"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, flags=re.S)[1]


def test_the_command_changes_nothing_but_what_stands_between_marks(tmp_path, monkeypatch):
    found = write(tmp_path)
    marks = "".join(
        f"before {name}\n<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in readme.parts(found)
    )
    (tmp_path / "README.md").write_text(marks + "after\n", encoding="utf-8")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    readme.run(None)
    once = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert all(between(once, name) == new for name, new in readme.parts(found).items())
    assert (
        once.count("before") == len(readme.parts(found)) == 4
        and once.endswith("after\n")
        and "old" not in once
    )
    readme.run(None)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == once


def test_rows_of_a_table_have_as_many_cells_as_its_head(tmp_path):
    for block in re.findall(
        r"(?:^\|.*\n)+", "\n\n".join(readme.parts(write(tmp_path)).values()) + "\n", flags=re.M
    ):
        head, rule, *rows = block.splitlines()
        assert (
            set(rule) <= set("|-")
            and rows
            and {row.count("|") for row in rows} == {head.count("|")}
        )


def test_the_tables_are_those_of_what_was_measured():
    found = load(ROOT / "reports")
    if set(found.numbers) != set(EXPERIMENTS):
        pytest.skip("not every experiment has been measured")
    assert all(between(TEXT, name) == new for name, new in readme.parts(found).items()), (
        "`nonequilibrium readme`"
    )


def test_lines_are_short():
    long = [
        line for line in TEXT.splitlines() if len(line) > 105 and not line.startswith(("|", "<img"))
    ]
    assert long == []


def test_experiments_and_commands_are_those_that_there_are():
    stages = re.search(r"Experiments are (.*?)\.\s", TEXT, flags=re.S)[1]
    assert set(re.findall(r"\w+", stages)) - {"and"} == set(EXPERIMENTS)
    listed = re.search(r"lists its commands: (.*?)\.\s", TEXT, flags=re.S)[1]
    assert set(COMMANDS) <= set(re.findall(r"`(\w+)`", listed))


def test_the_lines_of_python_run(monkeypatch, capsys):
    """With images that a dependency ships in place of CIFAR-10's, which may not be here."""
    program = re.search(r"```python\n(.*?)```", TEXT, flags=re.S)[1]
    assert 'load_images("cifar10")' in program
    monkeypatch.chdir(ROOT)
    exec(
        program.replace('load_images("cifar10")', 'load_images("photographs")').replace(
            "draws=20", "draws=2"
        ),
        {},
    )
    assert 0 < float(capsys.readouterr().out.split(" ± ")[0]) < 8  # bits of 8


def test_the_lines_for_a_model_of_one_s_own_run(capsys):
    program = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)[1]
    names = {"network": lambda x, s: x, "betas": torch.linspace(1e-4, 0.1, 50)}
    exec(program, names | {"images": torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)})
    said = re.fullmatch(
        r"(\S+) ± (\S+) bits/dim \(Monte Carlo alone ± (\S+)\)",
        capsys.readouterr().out.splitlines()[0],
    )
    assert all(float(number) > 0 for number in said.groups())
