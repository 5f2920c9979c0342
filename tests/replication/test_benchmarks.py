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
from matplotlib import pyplot as plt

from nonequilibrium.bound.thinning import StepCosts
from nonequilibrium.diffusion.thinning import even
from nonequilibrium.model.weights import load_weights
from replication.files import ROOT
from replication.measure import spacing
from replication.pages import benchmark_figures, benchmark_tables, prose
from replication.pages.findings import Findings, load
from replication.pages.growth import fitted


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


def test_the_growth_s_table_and_the_budgets_say_what_the_powers_say():
    work = {"training": {"parameters": sized(0.5), "pixels": sized(1.0)}}
    found = Findings(
        ROOT, benchmarks={"growth": {"work": work, "base": {"pixels": 1024}, "record": {}}}
    )
    first = benchmark_tables.growth(found).iloc[0]
    assert (
        first["time, exponent"].startswith("0.50")
        and first["time, 100×"] == "10×"
        and first["memory, 10×"] == "10×"
    )
    seconds = benchmark_tables.training_seconds(found, parameters=1e6, pixels=4 * 1024)
    assert seconds == pytest.approx(2 * 1000 / 32 * 4)
    years = benchmark_tables.budgets(found).iloc[0, -1]
    images = benchmark_tables.PUBLISHED["Ho et al. 2020, CIFAR-10"].images
    law = 2 * 35.7e6**0.5 / 32
    assert float(years) == pytest.approx(images * law / (365.25 * 24 * 3600), abs=0.06)


def test_the_speed_up_of_two_processes_is_that_of_rounds_in_which_both_ran(bench, monkeypatch):
    processes, asked = bench("processes"), []
    taken = {1: iter([8.0, 6.0, 9.0] * 2), 2: iter([4.0, 4.0, 4.5] * 2)}

    def run(function, devices, *arguments):
        asked.append((devices, torch.get_num_threads()))
        return next(taken[devices])

    monkeypatch.setattr(processes, "run", run)
    threads = torch.get_num_threads()
    found = processes.measured(bench("timing").Settings(repeats=9))
    assert asked == [(1, 1), (2, 2), (2, 2), (1, 1), (1, 1), (2, 2)] * 2, (
        "in turn, a thread for each process"
    )
    assert torch.get_num_threads() == threads
    assert (
        found["training"]["speed-up"]["median"] == 2.0
        and found["training"]["speed-up"]["low"] == 1.75
    )
    table = benchmark_tables.processes(
        Findings(ROOT, benchmarks={"processes": found | {"record": {}}})
    )
    assert (
        list(table["work"]) == ["measuring", "training"]
        and table["times sooner"][0] == "2.00 (1.75 to 2.00)"
    )


def test_what_was_tried_is_told_beside_what_is():
    way = {"ratio": {"median": 1.25, "low": 1.2, "high": 1.3}}
    tasks = {"the network and its gradient": {"as it is": way, "compiled": way | {"first": 41.6}}}
    table = benchmark_tables.tried(
        Findings(ROOT, benchmarks={"tried": {"cifar10": tasks, "record": {}}})
    )
    assert list(table["way"]) == ["compiled"] and table.iloc[0, -1] == "42"


def test_the_committed_benchmarks_are_told_whole_and_drawn():
    found = load(ROOT / "reports")
    parts = {
        "startup",
        "steps",
        "estimators",
        "thinning",
        "growth",
        "processes",
        "tried",
        "half_hour",
    }
    assert found.benchmarks.keys() >= parts
    assert "Not measured yet" not in prose.section("benchmarks", found)
    for its in found.benchmarks["thinning"].values():
        if "K" in its:
            plt.close(benchmark_figures.thinning(its))
    plt.close(benchmark_figures.growth(found.benchmarks["growth"]["work"]))


def test_without_benchmarks_the_report_says_how_to_get_them():
    assert "make bench" in prose.section("benchmarks", Findings(ROOT))


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
    assert spacing.load_costs(weights) is None
    spacing.save_costs(costs, weights)
    found = spacing.load_costs(weights)
    assert all(
        torch.allclose(a, b)
        for a, b in zip(vars(found).values(), vars(costs).values(), strict=True)
    )
    model = load_weights(weights, "mnist_conv")
    kernel = model.kernel()
    best, spaced = (spacing.thinned(model, known, 30)[0] for known in (found, None))
    assert best.T == spaced.T == 30 and not torch.equal(best.beta, spaced.beta)
    at = kernel.alpha_bar[torch.tensor(even(1000, 30))]
    assert torch.allclose(spaced.alpha_bar[1:], at, rtol=1e-9)
    spacing.place(weights).write_bytes(b"no such file")
    assert spacing.load_costs(weights) is None
    spacing.save_costs(costs, weights)
    weights.write_bytes(weights.read_bytes() + b" ")
    assert spacing.load_costs(weights) is None


@pytest.mark.parametrize("name", ["cifar10", "cifar10_unet", "mnist_dense", "mnist_conv"])
def test_committed_costs_are_those_of_the_committed_weights(name):
    assert spacing.load_costs(ROOT / "models" / f"{name}.safetensors") is not None


@pytest.mark.parametrize(
    "program", ["import replication.__main__ as m; m.main(['--help'])", "import nonequilibrium"]
)
def test_help_and_the_package_itself_import_no_torch(program):
    """SystemExit is how argparse ends after --help."""
    source = f"import json, sys\ntry:\n    {program}\nexcept SystemExit:\n    pass\nprint(json.dumps('torch' in sys.modules))"
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


def test_half_an_hour_shows_ours_beside_each_library_that_was_trained():
    found = load(ROOT / "reports")
    curve = [
        {"step": 10, "bits_per_dim": 7.5, "minutes": 15.0},
        {"step": 20, "bits_per_dim": 6.25, "minutes": 30.0},
    ]
    test = {"bits_per_dim": 6.5, "se": 0.25, "mc_se": 0.1, "images": 7}
    library = {"parameters": 1_230_000, "steps": 20, "curve": curve, "test": test}
    found.benchmarks = {"half_hour": {"ours": {"cifar10": 0.5}, "diffusers": library}}
    curves = benchmark_tables.half_hour_curves(found)
    ours, theirs = curves.values()
    steps = found.curves["cifar10"].dropna()["step"]
    last = steps[steps <= 3600].max()
    assert ours["step"].iloc[-1] == last < steps.max() and ours["minutes"].iloc[
        -1
    ] == pytest.approx(last / 120)
    assert list(theirs["bits_per_dim"]) == [7.5, 6.25]
    for its in curves.values():
        assert its["minutes"].is_monotonic_increasing and 0 < its["minutes"].max() <= 30
        assert its["bits_per_dim"].iloc[-1] < its["bits_per_dim"].iloc[0], "training helps"
    table = benchmark_tables.half_hour(found)
    assert list(table["parameters"]) == ["0.26 million", "1.23 million"] and list(
        table["steps"]
    ) == [f"{last:,}", "20"]
    assert table["bits/dim"].iloc[-1] == "6.25"
    text = prose.section("benchmarks", found)
    assert "On 7 test images" in text and "6.50 ± 0.25 bits/dim" in text
    assert "weights of denoising-diffusion-pytorch" not in text, "which was not trained"
    figure = benchmark_figures.half_hour(curves)
    assert [line.get_label() for line in figure.axes[0].lines] == list(curves)
    plt.close(figure)
