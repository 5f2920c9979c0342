"""The benchmarks without a clock: how rounds are put together, what the report makes of them, and
what a command imports.
"""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks.law import fitted
from nonequilibrium.bound.thinning import StepCosts
from nonequilibrium.diffusion.thinning import even
from nonequilibrium.model.weights import load_weights
from replication.files import ROOT
from replication.measure import sample


@pytest.fixture
def bench(monkeypatch):
    """Modules of benchmarks/ by name; they are no part of the package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def test_ways_take_turns_and_a_ratio_is_to_the_first_of_the_same_round(bench):
    timing, order = bench("timing"), []
    ticks = {
        "a": iter([9, 1, 2, 4]),
        "b": iter([9, 3, 4, 4]),
    }  # seconds of each call, the first to warm up
    clock = {"now": 0.0}

    def way(name):
        def run():
            order.append(name)
            clock["now"] += next(ticks[name])

        return run

    its = timing.Settings(clock=lambda: clock["now"], repeats=3)
    found = timing.in_turn({"a": way("a"), "b": way("b")}, its)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert found["a"]["ratio"] == {"median": 1, "low": 1, "high": 1}
    assert (
        found["b"]["ratio"]["median"] == 2 and found["b"]["seconds"]["median"] == 4
    )  # of 3/1, 4/2 and 4/4


def test_steps_for_the_same_K_are_interpolated(bench):
    lost = [
        ("all", 1000, 0.0),
        ("optimal", 100, 0.1),
        ("optimal", 25, 0.3),
        ("even", 200, 0.1),
        ("even", 100, 0.2),
    ]
    rows = [
        {"spacing": way, "steps": n, "losses": [loss, loss]}
        for way, n, loss in [*lost, ("even", 25, 0.9)]
    ]
    found = bench("thinning").same_K(rows)
    assert [row["even"] for row in found] == [200, 100], (
        "what no optimal chain loses has no such number"
    )
    assert [row["ratio_se"] for row in found] == [0, 0], "the two groups of images lose the same"
    assert found[0]["optimal"] == pytest.approx(100) and found[1]["optimal"] == pytest.approx(50)


def sized(exponent, base=2.0):
    rows = [{"size": n, "seconds": base * n**exponent, "bytes": 1e6 * n} for n in (10, 20, 40)]
    fits = {}
    for cost in ("seconds", "bytes"):
        law = fitted([row["size"] for row in rows], [row[cost] for row in rows])
        fits[cost] = {"factor": law.factor, "exponent": law.exponent, "se": law.se}
    return {"rows": rows, "fits": fits}


def test_the_speed_up_of_two_processes_is_that_of_rounds_in_which_both_ran(bench, monkeypatch):
    processes, asked = bench("processes"), []
    taken = {1: iter([8.0, 6.0, 9.0] * 2), 2: iter([4.0, 4.0, 4.5] * 2)}

    def run(number, which, small):
        asked.append(number)
        return next(taken[number])

    monkeypatch.setattr(processes, "run", run)
    found = processes.measured(bench("timing").Settings(repeats=9))
    assert asked == [1, 2, 2, 1, 1, 2] * 2, "in turn"
    assert (
        found["training"]["speed-up"]["median"] == 2.0
        and found["training"]["speed-up"]["low"] == 1.75
    )


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mnist_conv.safetensors"
    path.write_bytes((ROOT / "models" / "mnist_conv.safetensors").read_bytes())
    return path


def test_costs_of_steps_are_read_back_and_only_for_their_weights(weights):
    costs = StepCosts(
        torch.tensor([2, 1000]),
        torch.tensor([-20.0, 20.0]).double(),
        torch.rand(2, 2).double() + 0.1,
        torch.zeros(1001).double(),
    )
    assert sample.load_costs(weights) is None
    sample.save_costs(costs, weights)
    found = sample.load_costs(weights)
    assert all(
        torch.allclose(a, b)
        for a, b in zip(vars(found).values(), vars(costs).values(), strict=True)
    )
    model = load_weights(weights, "mnist_conv")
    kernel = model.kernel()
    best, spaced = (sample.thinned(model, known, 30)[0] for known in (found, None))
    assert best.T == spaced.T == 30 and not torch.equal(best.beta, spaced.beta)
    at = kernel.alpha_bar[torch.tensor(even(1000, 30))]
    assert torch.allclose(spaced.alpha_bar[1:], at, rtol=1e-9)
    sample.place(weights).write_bytes(b"no such file")
    assert sample.load_costs(weights) is None
    sample.save_costs(costs, weights)
    weights.write_bytes(weights.read_bytes() + b" ")
    assert sample.load_costs(weights) is None


@pytest.mark.parametrize("name", ["cifar10", "cifar10_unet", "mnist_dense", "mnist_conv"])
def test_committed_costs_are_those_of_the_committed_weights(name):
    assert sample.load_costs(ROOT / "models" / f"{name}.safetensors") is not None


@pytest.mark.parametrize(
    "program", ["import replication.__main__ as m; m.main(['--help'])", "import nonequilibrium"]
)
def test_help_and_the_package_itself_import_no_torch(program):
    """SystemExit is how argparse ends after --help."""
    source = f"import json, sys\ntry:\n    {program}\nexcept SystemExit:\n    pass\n"
    source += "print(json.dumps('torch' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) is False


def test_parts_are_checked_by_name_and_none_means_all(bench, monkeypatch, tmp_path, capsys):
    command, out = bench("__main__"), tmp_path / "benchmarks.json"
    ran = []
    monkeypatch.setattr(
        command.importlib,
        "import_module",
        lambda name: ran.append(name) or SimpleNamespace(measured=lambda _: {}),
    )
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--out", str(out)])
    command.main()
    assert ran == [f"benchmarks.{part}" for part in command.PARTS] and set(
        json.loads(out.read_text())
    ) == set(command.PARTS)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing", "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2 and "no part nothing" in capsys.readouterr().err
