import dataclasses

import pytest
import torch

from nonequilibrium.bound.bound import full_bound
from nonequilibrium.model.weights import load_weights, weights_bytes
from nonequilibrium.training.checkpoint import Checkpoint, read_state
from nonequilibrium.training.fit import Watch
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load
from replication.training.train import best_start, train


@pytest.fixture(scope="module", params=["swiss_roll", "heartbeat"])
def trained(request, tmp_path_factory):
    name = request.param
    overrides = {"train_steps": 200, "n_steps": 20} | (
        {"batch_t": 19} if name == "heartbeat" else {"starts": 1}
    )
    model, curve = train(name, load(name, overrides), log_every=20)
    path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
    path.write_bytes(weights_bytes(model, name))
    return name, model, curve, path


def test_training_raises_K_and_K_on_heldout_data_agrees(trained):
    name, model, curve, _ = trained
    assert curve[-1]["K"] > curve[0]["K"] + 0.5
    with torch.no_grad():
        kernel = model.kernel()
    heldout = model.law.sample(2000, torch.Generator().manual_seed(9))
    bound = full_bound(kernel, model.reverse(kernel), heldout, torch.Generator().manual_seed(1))
    assert bound.K / 0.6931 == pytest.approx(curve[-1]["K"], abs=0.6)


def test_weights_come_back_as_they_were(trained):
    name, model, _, path = trained
    again = load_weights(path, name)
    assert again.params == model.params
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_beta_1_is_held_while_the_others_are_learned():
    params = load("swiss_roll", {"train_steps": 50, "n_steps": 10, "starts": 1})
    model, _ = train("swiss_roll", params)
    start = EXPERIMENTS["swiss_roll"].model(**vars(params)).schedule()
    assert model.schedule()[0] == start[0] and (model.schedule()[1:] != start[1:]).all()
    fixed, _ = train("swiss_roll", dataclasses.replace(params, learn_beta=False))
    assert torch.allclose(fixed.schedule(), start.detach(), rtol=1e-12)


def test_the_heartbeat_s_draw_of_K_is_unbiased():
    """Averaging over which training sequence x^0 was changes the noise, not the expectation."""
    model = EXPERIMENTS["heartbeat"].model(
        **vars(load("heartbeat", {"n_steps": 60, "batch_t": 59, "batch": 20}))
    )
    torch.nn.init.normal_(
        model.network.readout.shared, std=0.05, generator=torch.Generator().manual_seed(1)
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        draws = torch.tensor([float(model.objective(generator)) for _ in range(100)])
    heldout = model.law.sample(3000, torch.Generator().manual_seed(3))
    bound = full_bound(model.kernel(), model.reverse(model.kernel()), heldout, generator)
    assert abs(draws.mean() - bound.K) < 4 * (bound.se + draws.std() / 10)


def test_the_best_of_several_starts_goes_on(tmp_path):
    params = load("swiss_roll", {"train_steps": 20, "start_steps": 20, "n_steps": 10, "starts": 3})
    options = Watch("roll"), Checkpoint(tmp_path / "roll.pt")
    best = best_start(EXPERIMENTS["swiss_roll"].model, params, *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"roll.start{i}.pt" for i in range(3)
    ]
    scores = []
    for number in range(3):
        identity = {"start": number, "steps": params.start_steps, "seed": params.seed}
        state = read_state(tmp_path / f"roll.start{number}.pt", identity)
        model = EXPERIMENTS["swiss_roll"].model(start=number, **vars(params))
        assert not torch.equal(
            model.network.rbf.centre,
            EXPERIMENTS["swiss_roll"].model(start=number + 1, **vars(params)).network.rbf.centre,
        )
        model.load_state_dict(state["model"])
        scores.append(model.score())
    assert best.score() == max(scores) > min(scores)
    assert best_start(EXPERIMENTS["swiss_roll"].model, params, *options).score() == max(scores), (
        "finished starts are kept"
    )
    trained, curve = train("swiss_roll", params, tmp_path)
    assert curve[-1]["step"] == 20 and trained.score() > max(scores) - 1
