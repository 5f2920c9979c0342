"""``nonequilibrium train``: what is found out before any training, and what is said and kept."""

import dataclasses
import json
import subprocess

import pytest
import torch

from nonequilibrium.errors import ParameterError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.training import devices
from nonequilibrium.training import fit as training
from replication import files
from replication.__main__ import main
from replication.pages import notebooks
from replication.settings.settings import load, quick
from replication.training import train as experiment

SHORT = ["train", "swiss_roll"]
for changed in ("train_steps=2", "starts=1", "n_steps=5", "batch=4"):
    SHORT += ["-p", changed]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Checkpoints of a test lie in its folder, and memory is left as it was."""
    monkeypatch.setattr(experiment, "ROOT", tmp_path / "root")
    monkeypatch.setattr(experiment, "keep_freed_memory", lambda: None)


@pytest.fixture
def no_training(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr(experiment, "fit", fail)


def said(capsys, arguments, status):
    assert main(arguments) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    "name", ["cuda:7", "cuda:-1", "tpu", "mps", "meta", "", "gpu", "CPU ", "cuda:x", "xla"]
)
def test_a_device_that_does_not_exist(tmp_path, capsys, no_training, name):
    if name.startswith("cuda:7") and torch.cuda.device_count() > 7:
        pytest.skip("there is such a device")
    for what in ("swiss_roll", "cifar10"):
        err = said(capsys, ["train", what, "--device", name, "--outputs", str(tmp_path)], 2)
        assert f"device is {name!r}" in err and "it must be cpu, or cuda" in err
    with pytest.raises(ParameterError, match="it must be cpu"):
        experiment.train("swiss_roll", load("swiss_roll"), device=name)


def test_the_cpu_works():
    assert devices.usable_device("cpu").type == "cpu"


@pytest.mark.parametrize("value", ["0", "-3"])
def test_log_every_is_at_least_one(tmp_path, capsys, no_training, value):
    err = said(capsys, ["train", "swiss_roll", "--log-every", value, "--outputs", str(tmp_path)], 2)
    assert f"log_every is {value}; it must be a whole number, at least 1" in err
    for bad in (0, True, 2.5, None):
        with pytest.raises(ParameterError, match="log_every is"):
            experiment.train("swiss_roll", load("swiss_roll"), log_every=bad)
        with pytest.raises(ParameterError, match="log_every is"):
            training.fit(None, None, [], 1, 0, watch=training.Watch(log_every=bad))


def test_outputs_that_cannot_be_written(tmp_path, capsys, no_training):
    a_file = tmp_path / "file"
    a_file.write_text("mine")
    (tmp_path / "reports").write_text("mine")
    taken = tmp_path / "taken" / "models" / "swiss_roll.safetensors"
    taken.mkdir(parents=True)
    for folder in (a_file, a_file / "below", tmp_path, tmp_path / "taken", "/proc/none"):
        err = said(capsys, ["train", "swiss_roll", "--outputs", str(folder)], 1)
        assert "cannot be written" in err and str(folder) in err
    assert a_file.read_text() == "mine"


def test_a_wrong_name(capsys, no_training):
    assert "did you mean 'swiss_roll'" in said(capsys, ["train", "swissroll"], 2)
    assert "did you mean 'mcgsm'" in said(capsys, ["train", "MCGSM"], 2)
    assert "the parameters of params.yaml alone" in said(
        capsys, ["train", "mcgsm", "-p", "steps=5"], 2
    )


def test_weights_that_are_there_are_replaced_only_by_force_and_by_the_usual_parameters(
    tmp_path, capsys
):
    kept = tmp_path / "models" / "swiss_roll.safetensors"
    kept.parent.mkdir()
    kept.write_text("trained")
    usual, other = load("swiss_roll"), load("swiss_roll", {"n_steps": 5})
    assert experiment.free_name("heartbeat", load("heartbeat"), tmp_path) == "heartbeat"
    assert experiment.free_name("swiss_roll", usual, tmp_path, force=True) == "swiss_roll"
    assert capsys.readouterr().err == ""
    given = (usual, False), (other, True)
    names = [experiment.free_name("swiss_roll", p, tmp_path, force) for p, force in given]
    assert len({"swiss_roll", *names}) == 3
    err = capsys.readouterr().err.splitlines()
    assert "--force replaces them" in err[0] and "are not those of params.yaml" in err[1]
    assert main([*SHORT, "--outputs", str(tmp_path), "--force"]) == 0
    assert kept.read_text() == "trained"
    (weights,) = tmp_path.glob("models/swiss_roll-*.safetensors")
    assert weights.with_suffix(".json").exists() and str(weights) in capsys.readouterr().out
    assert (tmp_path / f"reports/plots/{weights.stem}_training.csv").exists()


def test_a_full_disk_after_training_says_where_the_training_is(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiment, "save_contents", full)
    err = said(capsys, [*SHORT, "--outputs", str(tmp_path)], 1)
    assert "No space left on device" in err and "holds the training" in err
    monkeypatch.undo()
    monkeypatch.setattr(experiment, "ROOT", tmp_path / "root")
    drawn = []
    monkeypatch.setattr(
        "nonequilibrium.model.toys.PointsModel.objective", lambda *_: drawn.append(1)
    )
    assert main([*SHORT, "--outputs", str(tmp_path)]) == 0 and not drawn, (
        "it was written without a further step"
    )
    assert (tmp_path / "models" / "swiss_roll.safetensors").exists()
    assert (
        (tmp_path / "reports" / "plots" / "swiss_roll_training.csv")
        .read_text()
        .startswith("step,K\n2,")
    )
    assert list((tmp_path / "root" / ".checkpoints").iterdir()) == []


def test_a_lack_of_memory_is_one_sentence(tmp_path, capsys, monkeypatch):
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nto allocate"),
    ):

        def lacking(*_, error=error, **__):
            raise error

        monkeypatch.setattr(experiment, "fit", lacking)
        assert "swiss_roll needs more memory" in said(
            capsys, [*SHORT, "--outputs", str(tmp_path)], 1
        )
    with pytest.raises(RuntimeError, match="another"), devices.enough_memory("x"):
        raise RuntimeError("another")


def no_git(*_, **__):
    raise FileNotFoundError("git")


def late_git(*_, **__):
    raise subprocess.TimeoutExpired("git", 60)


def strange_git(*_, **__):
    raise subprocess.CalledProcessError(128, "git", "fatal", "fatal: dubious ownership")


@pytest.mark.parametrize("git", [no_git, late_git, strange_git])
def test_without_git_the_card_has_no_commit_and_nothing_fails(tmp_path, monkeypatch, git):
    monkeypatch.setattr(files.subprocess, "run", git)
    monkeypatch.setattr(files, "ROOT", tmp_path)
    (tmp_path / ".git").mkdir()
    params = dataclasses.replace(
        quick("mnist_dense"), n_steps=5, dense_units=4, pixel_units=4, bumps=3
    )
    curve = [{"step": 1, "K": 0.0, "seconds": 1.0, "K_validation": 0.0}]
    experiment.save_trained(ImageModel(**vars(params)), "mnist_dense", curve, tmp_path, "cpu")
    assert json.loads((tmp_path / "models" / "mnist_dense.json").read_text())["commit"] is None


def test_the_commit_of_a_folder_around_the_code_is_not_the_code_s(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path / "unpacked")
    (tmp_path / ".git").mkdir()
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(
        files.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "abc\n", "")
    )
    assert files.commit() is None
    (tmp_path / "unpacked" / ".git").write_text("gitdir: elsewhere")
    assert files.commit() == "abc"


def test_weights_and_outputs_of_measuring_are_those_of_the_folder_one_is_in(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        notebooks, "execute", lambda notebook, parameters, name: given.update(parameters)
    )
    monkeypatch.chdir(tmp_path)
    for words in (
        ["measure", "heartbeat", "--weights", "mine.safetensors", "--outputs", "here"],
        ["measure", "heartbeat"],
    ):
        assert main(words) in (0, None)
        here = "--weights" in words
        assert given["weights"] == (
            str(tmp_path / "mine.safetensors") if here else "models/heartbeat.safetensors"
        )
        assert given["outputs"] == (str(tmp_path / "here") if here else "reports")
