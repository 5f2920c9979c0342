import io
import math
import sys
import time
from functools import partial

import pytest
import torch
from apart import started
from torch import nn

from nonequilibrium.errors import TrainingError
from nonequilibrium.files import say
from nonequilibrium.model.weights import weights_bytes
from nonequilibrium.training.checkpoint import Checkpoint, read_state
from nonequilibrium.training.fit import Ascent, Watch, fit
from nonequilibrium.training.optimiser import SOAP
from replication.settings.settings import load, quick
from replication.training import train as experiment


class Quadratic(nn.Module):
    """K = −|A w − b|² with an ill-conditioned A, plus noise in the draw."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(8, 3))
        generator = torch.Generator().manual_seed(0)
        self.A = torch.randn(8, 8, generator=generator) @ torch.diag(torch.logspace(0, -2, 8))
        self.b = self.A @ torch.randn(8, 3, generator=generator)
        self.poison = None
        self.calls = 0

    def K(self, generator):
        self.calls += 1
        noise = 0.01 * torch.randn(8, 3, generator=generator)
        value = -(self.A @ self.w - self.b + noise).square().sum()
        return value * float("nan") if self.calls == self.poison else value


def groups(model):
    return [{"params": list(model.parameters()), "lr": 0.1}]


def test_fit_maximises_K_and_beats_adam_on_correlated_features():
    model = Quadratic()
    curve = fit(model, model.K, groups(model), 500, seed=0)
    adam = Quadratic()
    optimiser, generator = (
        torch.optim.Adam(adam.parameters(), lr=0.1),
        torch.Generator().manual_seed(0),
    )
    for _ in range(500):
        optimiser.zero_grad()
        (-adam.K(generator)).backward()
        optimiser.step()

    def residual(m):
        return (m.A @ m.w - m.b).square().sum().item()

    assert curve[-1]["K"] > curve[0]["K"] and curve[-1]["step"] == 500
    assert residual(model) < 0.5 * residual(adam)


def test_soap_leaves_long_axes_alone_and_skips_absent_gradients():
    used, unused = nn.Parameter(torch.randn(3, 600)), nn.Parameter(torch.ones(2))
    before = used.detach().square().sum()
    optimiser = SOAP([used, unused], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        used.square().sum().backward()
        optimiser.step()
    assert [len(m) for m in optimiser.state[used]["moments"]] == [3, 0]
    assert (unused == 1).all() and used.square().sum() < before


@pytest.mark.parametrize("poison", [1, 7])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path, poison
):
    model, path = Quadratic(), tmp_path / "run.pt"
    model.poison = poison
    with pytest.raises(TrainingError, match=f"K is nan .* at step {poison}") as error:
        fit(model, model.K, groups(model), 20, 0, checkpoint=Checkpoint(path, {}, 0.0))
    if poison == 1:
        assert not path.exists()
    else:
        assert "run.pt holds the last good state" in str(error.value)
        state = read_state(path, {"steps": 20, "seed": 0})
        assert state["step"] == 6 and torch.isfinite(state["model"]["w"]).all()


def test_a_gradient_that_is_not_finite_stops_the_run():
    model = nn.Linear(1, 1, bias=False)
    with pytest.raises(TrainingError, match="gradient's norm nan at step 1"):
        fit(
            model,
            lambda g: (model.weight.sum() - model.weight.sum().detach()).sqrt() * 0,
            groups(model),
            5,
            seed=0,
        )


def test_the_average_is_put_in_place_and_watched_and_long_gradients_are_shortened():
    """Plain ascent on a slope of 1000: each step is as long as the norm that is allowed."""
    layer, seen = nn.Linear(1, 1, bias=False), []
    start = layer.weight.item()
    slope = [{"params": [layer.weight], "lr": 1.0}]
    watch = Watch(log_every=2, monitor=lambda: seen.append(layer.weight.item()) or 7.0)
    ascent = Ascent(torch.optim.SGD, max_norm=0.5, average=(layer, 0.5))
    curve = fit(layer, lambda _: 1000 * layer.weight.sum(), slope, 4, 0, ascent, watch)
    height = [0.001 + 0.999 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    places = start + 0.5 * torch.tensor(height).cumsum(0)
    averages = [places[0]]
    for place in places[1:]:
        averages.append((averages[-1] + place) / 2)
    assert seen == pytest.approx([averages[1].item(), averages[3].item()], rel=1e-5)
    assert layer.weight.item() == pytest.approx(averages[3].item(), rel=1e-5)
    assert [row["K_validation"] for row in curve] == [7.0, 7.0] and not layer.training


def test_the_bar_ends_with_the_k_that_is_reported_and_may_fail_to_write(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.delenv("NONEQUILIBRIUM_QUIET", raising=False)
    monkeypatch.delenv("CI", raising=False)
    for stream in (io.StringIO(), Full(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        model = Quadratic()
        curve = fit(model, model.K, groups(model), 60, 0, watch=Watch(log_every=60))
        say("a word")
        if type(stream) is io.StringIO:
            last, word = stream.getvalue().rpartition("\r")[2].splitlines()
            assert "60/60" in last and last.endswith(f"K = {curve[-1]['K']:.3f} bits]")
            assert word == "a word"
    assert curve[-1]["K"] == pytest.approx(fitted_last(60, 6), rel=1e-6), "of the last tenth"


def fitted_last(steps, last):
    model, values = Quadratic(), []

    def noted(generator):
        values.append(model.K(generator))
        return values[-1]

    fit(model, noted, groups(model), steps, 0)
    return sum(value.item() for value in values[-last:]) / last / math.log(2)


def saving_often(name, folder, overrides):
    """A training that writes a checkpoint after each step, in a process of its own."""
    experiment.Checkpoint = partial(Checkpoint, every_seconds=0.0)
    weights = folder / "weights.safetensors"
    save = lambda model, _: weights.write_bytes(weights_bytes(model, name))  # noqa: E731
    experiment.train(name, load(name, overrides), folder / "checkpoints", save=save)


@pytest.mark.parametrize(
    "name, overrides",
    [
        ("swiss_roll", {"train_steps": 80, "starts": 1}),
        ("heartbeat", {"train_steps": 60, "n_steps": 20, "batch_t": 10}),
    ],
)
def test_a_killed_run_continues_bit_for_bit(tmp_path, name, overrides):
    def start(folder):
        return started(saving_often, name, folder, overrides)

    def finish(folder):
        process = start(folder)
        process.join()
        assert process.exitcode == 0

    finish(tmp_path / "whole")
    killed = tmp_path / "killed"
    for _ in range(2):
        process = start(killed)
        deadline = time.time() + 60
        before = [p.stat().st_mtime_ns for p in killed.glob("checkpoints/*.pt")]
        while (
            time.time() < deadline
        ):  # let it write at least one checkpoint of its own, then kill -9
            now = [p.stat().st_mtime_ns for p in killed.glob("checkpoints/*.pt")]
            if now and now != before:
                break
            time.sleep(0.01)
        process.kill()
        process.join()
        assert not (killed / "weights.safetensors").exists(), "the run was too short to be killed"
    content = next(killed.glob("checkpoints/*.pt")).read_bytes().partition(b"\n")[2]
    state = torch.load(io.BytesIO(content), weights_only=True)
    assert 0 < state["state"]["step"] < overrides["train_steps"]
    # As a kill in the middle of a write leaves it, which happens by chance above too.
    checkpoint = next(killed.glob("checkpoints/*.pt"))
    checkpoint.with_name(f".{checkpoint.name}.0123456789ab.tmp").write_bytes(b"half of it")
    finish(killed)
    assert not [*killed.glob("checkpoints/*"), *killed.glob("checkpoints/.*")], (
        "a finished run leaves nothing behind"
    )
    whole, continued = (tmp_path / run / "weights.safetensors" for run in ("whole", "killed"))
    assert whole.read_bytes() == continued.read_bytes()


def test_quick_parameters_only_shorten():
    full, short = load("heartbeat"), quick("heartbeat")
    assert (
        short.train_steps < full.train_steps
        and short.hidden == full.hidden
        and short.layers == full.layers
    )
