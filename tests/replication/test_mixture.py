"""The MCGSM that is kept: how large it is, what is read back, and what is refused."""

import dataclasses
import json
import types

import pytest
import torch

from nonequilibrium.data.leaves import leaves_pictures
from nonequilibrium.errors import WeightsError
from nonequilibrium.model.textures import LeavesModel
from replication.__main__ import main
from replication.measure import mixture
from replication.measure.mixture import grown, load_mixture, save_mixture
from replication.settings.params import MCGSMParams
from replication.settings.settings import quick

SMALL = MCGSMParams(components=1, features=2, scales=3, doublings=3, steps=60, least_gain=0.0)


@pytest.fixture(scope="module")
def leaves():
    params = quick("dead_leaves", {"n_train": 10, "n_test": 2})
    data = leaves_pictures(params)
    return LeavesModel(data, **vars(params)), data


@pytest.fixture(scope="module")
def trained(leaves):
    return grown(leaves[0], leaves[1].train, SMALL)


def test_it_doubles_until_a_doubling_gains_too_little(leaves, trained, monkeypatch):
    model, data = leaves
    _, rows = trained
    assert [(row["components"], row["features"]) for row in rows] == [
        (1 << k, 2 << k) for k in range(len(rows))
    ]
    one, only = grown(model, data.train, dataclasses.replace(SMALL, doublings=0))
    assert only == rows[:1] and one.a.shape[0] == 1, (
        "the first size is the same whatever comes after it"
    )
    most = dataclasses.replace(SMALL, least_gain=1.0, steps=5)
    assert len(grown(model, data.train, most)[1]) == 2, (
        "the second gains less than a bit, so there is no third"
    )
    values = iter([1.0, 1.5, 1.2, 9.9])
    monkeypatch.setattr(
        mixture, "per_image", lambda *_: torch.full((2,), next(values), dtype=torch.float64)
    )
    best, rows = grown(model, data.train, dataclasses.replace(SMALL, steps=1))
    assert len(rows) == 3 and best.a.shape[0] == 2, "the best, not the last"


def test_sizes_are_compared_on_images_that_it_was_not_trained_on(leaves, monkeypatch):
    model, data = leaves
    seen, real = [], mixture.drawing
    monkeypatch.setattr(
        mixture, "drawing", lambda model, images: seen.append(images) or real(model, images)
    )
    scored = []
    monkeypatch.setattr(
        mixture,
        "per_image",
        lambda _, images: scored.append(images) or torch.zeros(len(images)),
    )
    grown(model, data.train, dataclasses.replace(SMALL, doublings=0, steps=1))
    assert (
        len(seen[0]) == 8
        and len(scored[0]) == 2
        and all(a is b for a, b in zip(seen[0], data.train, strict=False))
    )
    clean = scored[0] * model.scale.sigma + model.scale.mean
    for image, held in zip(clean, data.train[8:], strict=True):
        assert float((image - held).std()) == pytest.approx(model.params.noise, rel=0.1)


def test_what_was_saved_computes_the_same(leaves, trained, tmp_path):
    model, _ = leaves
    its, rows = trained
    path = tmp_path / "mcgsm.safetensors"
    save_mixture(its, rows, model.params, path, {"seconds": 1.0})
    again, told = load_mixture(model.params, path)
    y, x = torch.randn(5), torch.randn(5, 40)
    assert torch.equal(again(y, x), its(y, x)) and told == rows
    card = json.loads(path.with_suffix(".json").read_text())
    assert (
        card["sizes"] == rows
        and card["seconds"] == 1.0
        and card["law"]["noise"] == model.params.noise
    )


def test_one_of_other_leaves_and_what_is_none_are_refused(leaves, trained, tmp_path):
    path, params = tmp_path / "mcgsm.safetensors", leaves[0].params
    with pytest.raises(WeightsError, match="holds no MCGSM of dead leaves; .*mcgsm`"):
        load_mixture(params, path)
    save_mixture(*trained, params, path, {})
    for name, value in {"noise": 0.1, "smallest": 1.0, "n_train": 11}.items():
        with pytest.raises(
            WeightsError, match=f"trained on dead leaves with {name} = .*, not {value}"
        ):
            load_mixture(types.SimpleNamespace(**vars(params) | {name: value}), path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(WeightsError, match="not what its card"):
        load_mixture(params, path)
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="holds no MCGSM"):
        load_mixture(params, path)


def test_the_command_trains_on_the_leaves_of_the_parameters(leaves, tmp_path, monkeypatch, capsys):
    values = {
        "mcgsm": dataclasses.replace(SMALL, doublings=1, steps=2),
        "dead_leaves": leaves[0].params,
    }
    monkeypatch.setattr(mixture, "load", values.get)
    assert main(["train", "mcgsm", "--outputs", str(tmp_path)]) == 0
    assert "1 components: " in capsys.readouterr().out
    assert len(load_mixture(leaves[0].params, tmp_path / "models/mcgsm.safetensors")[1]) == 2
