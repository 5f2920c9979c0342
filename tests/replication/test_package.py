"""The package installed by itself, apart from a checkout and from every library that only notebooks
need.
"""

import re
import shutil
import subprocess
import sys

import pytest

import nonequilibrium
from replication.data.images import load_images
from replication.files import ROOT

CORE = {"numpy", "PyYAML", "safetensors", "scipy", "torch", "tqdm"}
BLOCKED = (
    "pandas matplotlib seaborn skimage sklearn PIL papermill nbformat nbconvert jupyterlab "
    "IPython dvc requests pooch bs4 jinja2 filelock"
).split()
PROGRAM = """
import sys
for name in sys.argv[2:]:
    sys.modules[name] = None  # importing it raises ImportError
import torch
import nonequilibrium
from nonequilibrium import bits, load_weights, sample_each, sampled_bound
model = load_weights(sys.argv[1])
kernel, reverse = model.thinned(5)
x = sample_each(kernel, reverse, 2, model.network.shape, seed=0)
bound = sampled_bound(kernel, reverse, x, torch.Generator().manual_seed(0), draws=2)
print(nonequilibrium.__file__, tuple(x.shape), bits(bound.K))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the package was installed from a copy of its sources, as a user's pip
    does it.
    """
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("installed")
    shutil.copytree(
        ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", target, copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_it_loads_weights_measures_a_bound_and_samples_with_the_core_libraries_alone(
    installed, tmp_path
):
    weights = ROOT / "models" / "mnist_conv.safetensors"
    command = [sys.executable, "-c", PROGRAM, weights, *BLOCKED]
    environment = {
        "PYTHONPATH": str(installed),
        "OMP_NUM_THREADS": "1",
        "NONEQUILIBRIUM_QUIET": "1",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, said = done.stdout.split(" ", 1)
    assert where.startswith(str(installed)) and said.startswith("(2, 1, 28, 28) ")


def test_it_has_every_file_that_is_no_module_too(installed):
    source, package = ROOT / "src" / "nonequilibrium", installed / "nonequilibrium"
    files = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert files == {
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_what_it_depends_on_is_the_core(installed):
    (metadata,) = installed.glob("nonequilibrium-*.dist-info/METADATA")
    needs = re.findall(r"^Requires-Dist: ([\w-]+)(?![^\n]*extra ==)", metadata.read_text(), re.M)
    assert set(needs) == CORE


def test_every_public_name_is_where_it_is_said_to_be():
    for name in nonequilibrium.__all__:
        assert getattr(nonequilibrium, name) is not None, name


def test_the_example_at_the_top_runs_as_it_stands(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    example = re.search(r"is\n\n((?:    .*\n|\n)+)", nonequilibrium.__doc__)[1]
    images = load_images("photographs").test  # as large as CIFAR-10's images, and always there
    exec("\n".join(line[4:] for line in example.splitlines()), {"images": images})
    assert 2 < float(capsys.readouterr().out) < 8
