"""README.md: its words hold, and its lines of Python run."""

import re

import torch

from replication.__main__ import COMMANDS
from replication.files import ROOT
from replication.settings.registry import EXPERIMENTS

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


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
