"""Unfinished trainings: whose checkpoint is used, when it is removed, and what happens where it
cannot be saved.
"""

import dataclasses
import errno
import os
import signal
from functools import partial

import pytest
import torch

from nonequilibrium.data.images import ImageSet
from nonequilibrium.errors import TrainingError
from nonequilibrium.training.checkpoint import Checkpoint, read_state, write_state
from nonequilibrium.training.fit import fit
from replication.settings.settings import load
from replication.training import train as experiment
from replication.training.train import train

PARAMS = load("swiss_roll", {"train_steps": 8, "n_steps": 5, "starts": 1, "batch": 8, "units": 4})
SEVERAL = dataclasses.replace(PARAMS, starts=2, start_steps=4)


class Stop(Exception):
    pass


def interrupted(folder, params=PARAMS, steps=5, **options):
    """Leave what a run leaves that stops after this many steps of its last part; returns the run's
    checkpoint.
    """

    def stopped(model, K, *arguments, **more):
        calls = []

        def until(generator):
            calls.append(1)
            if len(calls) > steps:
                raise Stop
            return K(generator)

        return fit(model, until, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "fit", stopped)
        patch.setattr(experiment, "Checkpoint", partial(Checkpoint, every_seconds=0.0))
        with pytest.raises(Stop):
            train("swiss_roll", params, folder, **options)
    return next(path for path in folder.glob("*.pt") if "start" not in path.name)


@pytest.fixture
def steps(monkeypatch):
    """How many steps each training made."""
    made = []

    def counted(model, K, *arguments, **options):
        made.append(0)

        def K_counted(generator):
            made[-1] += 1
            return K(generator)

        return fit(model, K_counted, *arguments, **options)

    monkeypatch.setattr(experiment, "fit", counted)
    return made


def same(model, other):
    return all(
        torch.equal(value, other.state_dict()[key]) for key, value in model.state_dict().items()
    )


def test_a_finished_run_leaves_nothing_and_a_rerun_trains(tmp_path, steps):
    for _ in range(2):
        train("swiss_roll", SEVERAL, tmp_path)
        assert list(tmp_path.iterdir()) == []
    assert steps == [4, 4, 8] * 2


def test_the_starts_are_kept_until_the_whole_run_is_finished(tmp_path, steps):
    path = interrupted(tmp_path, SEVERAL)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [path.name, *(f"{path.stem}.start{i}.pt" for i in (0, 1))]
    )
    whole, _ = train("swiss_roll", SEVERAL)
    steps.clear()
    continued, _ = train("swiss_roll", SEVERAL, tmp_path)
    assert steps == [0, 0, 3], "the starts were finished, and five of the eight steps made"
    assert same(whole, continued) and list(tmp_path.iterdir()) == []


@pytest.fixture
def heeded(name):
    """The number of a signal, which is not ignored even where nohup started the tests."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    yield number
    signal.signal(number, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_signal_ends_a_training_after_a_saved_step(tmp_path, monkeypatch, name, heeded):
    number, calls = heeded, []

    def warned(model, K, *arguments, **options):
        def objective(generator):
            calls.append(1)
            if len(calls) == 5:
                os.kill(os.getpid(), number)
            return K(generator)

        return fit(model, objective, *arguments, **options)

    before = signal.getsignal(number)
    monkeypatch.setattr(experiment, "fit", warned)
    with pytest.raises(TrainingError, match=f"{name} after step 5; .*pt holds the training"):
        train("swiss_roll", PARAMS, tmp_path)
    assert signal.getsignal(number) is before
    continued, _ = train("swiss_roll", PARAMS, tmp_path)
    assert len(calls) == PARAMS.train_steps, "no step was made twice"
    whole, _ = train("swiss_roll", PARAMS)
    assert same(whole, continued)


@pytest.mark.parametrize("step", [-5, 0, 9, 2.5, "3", None])
def test_a_state_of_an_impossible_step_is_not_used(tmp_path, step):
    layer = torch.nn.Linear(1, 1)
    fits = layer, lambda _: -layer.weight.square().sum(), [{"params": [layer.weight], "lr": 0.1}]
    checkpoint = Checkpoint(tmp_path / "state.pt", {}, 0.0)
    fit(*fits, 8, 0, checkpoint=checkpoint)
    of = {"steps": 8, "seed": 0}
    write_state(checkpoint.path, of, read_state(checkpoint.path, of) | {"step": step})
    with pytest.raises(TrainingError, match="does not fit the model .it is of step .*; delete it"):
        fit(*fits, 8, 0, checkpoint=checkpoint)


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, monkeypatch):
    """nohup starts a command so."""

    def warned(model, K, *arguments, **options):
        def objective(generator):
            os.kill(os.getpid(), signal.SIGHUP)
            return K(generator)

        return fit(model, objective, *arguments, **options)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(experiment, "fit", warned)
        train("swiss_roll", PARAMS, tmp_path)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda patch: patch.setattr(experiment, "manifest", lambda _: "other"), "code"),
        (lambda patch: patch.setattr(experiment, "version", lambda _: "0.1"), "library versions"),
        (
            lambda patch: patch.setattr(experiment.platform, "python_version", lambda: "3.0.0"),
            "library versions",
        ),
    ],
)
def test_a_checkpoint_of_other_code_or_libraries_is_not_used(
    tmp_path, monkeypatch, steps, capsys, change, what
):
    path = interrupted(tmp_path)
    change(monkeypatch)
    model, _ = train("swiss_roll", PARAMS, tmp_path)
    assert steps == [8] and list(tmp_path.iterdir()) == []
    assert (
        capsys.readouterr().err
        == f"{path.name} is not used, the work begins anew: it was begun with other {what}\n"
    )
    assert same(model, train("swiss_roll", PARAMS)[0])


def test_how_often_the_curve_has_a_point_is_no_part_of_it(tmp_path, steps):
    interrupted(tmp_path, log_every=3)
    train("swiss_roll", PARAMS, tmp_path, log_every=2)
    assert steps == [3], "five of the eight steps had been made"


def test_the_identity_has_the_data_and_every_parameter():
    images = ImageSet(
        torch.arange(640).to(torch.uint8).reshape(10, 1, 8, 8), torch.zeros(1, 1, 8, 8), "numbers"
    )
    params = load("mnist_dense", {"data": "digits"})
    ours = experiment.identity("mnist_dense", params, images)
    train_images = images.train.clone()
    train_images[3, 0, 4, 4] ^= 1
    assert experiment.identity("mnist_dense", params, images._replace(train=train_images)) != ours
    other = experiment.identity("mnist_dense", dataclasses.replace(params, seed=1), images)
    assert {name for name in ours if ours[name] != other[name]} == {"parameters"}
    assert experiment.identity("mnist_dense_1x1", params, images) != ours
    assert experiment.identity("mnist_dense", params, images) == ours


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:40],
        lambda raw: raw[:-1],
        lambda raw: raw[: raw.index(b"\n") + 1],
        lambda raw: raw + b"x",
        lambda raw: raw[:-300] + bytes([raw[-300] ^ 1]) + raw[-299:],
        lambda raw: raw.partition(b"\n")[2],  # as torch alone would have saved it
        lambda raw: b"\n" + raw.partition(b"\n")[2],
        lambda raw: b"\x80\x04\x95.",
    ],
)
def test_a_damaged_checkpoint_is_said_to_be_and_not_used(tmp_path, steps, capsys, damage):
    path = interrupted(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    train("swiss_roll", PARAMS, tmp_path)
    said = capsys.readouterr().err
    assert steps == [8] and said.count("\n") == 1
    assert said.startswith(
        f"{path.name} is not used, the work begins anew: it is damaged, cut short or no checkpoint"
    )


def test_every_flipped_byte_is_noticed(tmp_path, capsys):
    path, identity = tmp_path / "a.pt", {"parameters": {"seed": 0}, "code": "abc"}
    write_state(path, identity, {"x": 1.5})
    raw = path.read_bytes()
    assert read_state(path, identity) == {"x": 1.5} and read_state(path, {"code": "abc"}) is None
    assert "begun with other parameters" in capsys.readouterr().err
    for place in [*range(70), *range(70, len(raw), 7)]:
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        assert read_state(path, identity) is None
    said = capsys.readouterr().err.splitlines()
    assert all(
        line.startswith("a.pt is not used, the work begins anew: it is dam") for line in said
    )


def test_a_renamed_checkpoint_is_not_used(tmp_path, steps, capsys):
    other = interrupted(tmp_path / "other", dataclasses.replace(PARAMS, seed=1))
    mine = interrupted(tmp_path)
    other.rename(mine)
    train("swiss_roll", PARAMS, tmp_path)
    assert steps == [8] and "begun with other parameters" in capsys.readouterr().err
    path = interrupted(tmp_path, SEVERAL)
    first, second = (path.with_suffix(f".start{i}.pt") for i in (0, 1))
    second.write_bytes(first.read_bytes())
    continued, _ = train("swiss_roll", SEVERAL, tmp_path)
    assert "begun with other start" in capsys.readouterr().err and same(
        continued, train("swiss_roll", SEVERAL)[0]
    )


def test_a_whole_checkpoint_that_does_not_fit_is_one_sentence(tmp_path):
    identity = experiment.identity("swiss_roll", PARAMS, None) | {"steps": 8, "seed": 0}
    path = interrupted(tmp_path)
    write_state(path, identity, {"model": {}})
    with pytest.raises(TrainingError, match=f"{path} does not fit the model .*; delete it"):
        train("swiss_roll", PARAMS, tmp_path)


def test_a_state_is_read_to_the_cpu(tmp_path, monkeypatch):
    asked, original = {}, torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.update(k) or original(*a, **k))
    write_state(tmp_path / "a", {}, {"x": torch.ones(2)})
    assert read_state(tmp_path / "a", {})["x"].tolist() == [1, 1]
    assert asked == {"map_location": "cpu", "weights_only": True}


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_checkpoint_that_cannot_be_saved_stops_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nonequilibrium.files.os.replace", full)
    monkeypatch.setattr(experiment, "Checkpoint", partial(Checkpoint, every_seconds=0.0))
    model, curve = train("swiss_roll", PARAMS, tmp_path)
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert said == (
        "swiss_roll: the checkpoint could not be saved ([Errno 28] No space left on device); "
        "training goes on\n"
    )
    assert list(tmp_path.iterdir()) == [] and same(model, train("swiss_roll", PARAMS)[0])
    (tmp_path / "file").write_text("")
    assert train("swiss_roll", PARAMS, tmp_path / "file")[1] == curve


def test_a_result_that_cannot_be_written_is_kept_in_the_checkpoint(tmp_path, steps):
    with pytest.raises(
        TrainingError,
        match="could not be written .*No space left.*; .* holds the training",
    ):
        train("swiss_roll", PARAMS, tmp_path, save=full)
    given = []
    model, curve = train("swiss_roll", PARAMS, tmp_path, save=lambda *result: given.append(result))
    assert steps == [8, 0] and given == [(model, curve)] and list(tmp_path.iterdir()) == []
    assert same(model, train("swiss_roll", PARAMS)[0])


def test_the_checkpoint_is_there_until_the_result_is_written(tmp_path):
    seen = []
    train(
        "swiss_roll",
        SEVERAL,
        tmp_path,
        save=lambda *_: seen.extend(path.name for path in tmp_path.iterdir()),
    )
    assert len(seen) == 3 and list(tmp_path.iterdir()) == []
