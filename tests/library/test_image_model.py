"""The image model on scikit-learn's digits, which need no download."""

import copy
import dataclasses
import json

import pytest
import torch

from nonequilibrium.bound.bound import L_null, bits, full_bound, sampled_bound
from nonequilibrium.bound.proposals import proposal_from
from nonequilibrium.diffusion.kernels import Normal
from nonequilibrium.errors import ParameterError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights
from nonequilibrium.training import fit as training
from replication.__main__ import main
from replication.data.images import DataError, load_images
from replication.settings.settings import quick
from replication.training import train as experiment
from replication.training.train import save_trained, train


def small(**changes):
    params = quick("mnist_dense")
    options = {
        "n_steps": 30,
        "precision": "float32",
        "train_steps": 150,
        "ema": 0.95,
        "dense_units": 24,
        "pixel_units": 8,
        "bumps": 6,
        "batch": 32,
    }
    return dataclasses.replace(params, **(options | changes))


@pytest.fixture(scope="module")
def trained():
    return train("mnist_dense", small())


def test_training_raises_K_on_images_set_aside(trained):
    model, curve = trained
    assert curve[-1]["K_validation"] > curve[0]["K_validation"] + 0.1
    assert list(curve[0]) == ["step", "K", "seconds", "K_validation"]


def test_the_model_holds_the_constants_of_the_training_set(trained):
    images = load_images("digits")
    noisy = images.train.double() + 0.5
    assert trained[0].scale.mean == pytest.approx(noisy.mean().item())
    assert trained[0].scale.sigma ** 2 == pytest.approx(noisy.var(correction=0).item() + 1 / 12)


@pytest.mark.parametrize("emphasis", [0.0, 1.0])
def test_one_draw_of_K_is_unbiased_and_every_estimator_agrees(trained, emphasis):
    """Training's draw is one of K, or with an emphasis of K with KL_t counted ᾱ_t^−emphasis times;
    the others are of K always.
    """
    model = copy.deepcopy(trained[0])
    model.params.emphasis = emphasis
    kernel = model.kernel()
    x0 = model.scale.dequantise(model.images[:400], torch.Generator().manual_seed(3))
    whole = full_bound(
        kernel, model.reverse(kernel), x0, torch.Generator().manual_seed(4), block=2000
    )
    some = sampled_bound(
        kernel,
        model.reverse(kernel),
        x0,
        torch.Generator().manual_seed(5),
        6,
        model.proposal(),
        replicates=4,
        block=64,
    )
    assert abs(whole.K - some.K) < 4 * some.mc_se + 0.2
    with torch.no_grad():
        draws = torch.tensor(
            [float(model.objective(torch.Generator().manual_seed(s))) for s in range(150)]
        )
    counted = float((whole.rest - whole.kl @ kernel.alpha_bar**-emphasis).mean())
    error = (draws.var() / len(draws)) ** 0.5 + whole.se
    assert abs(draws.mean() - counted) < 4 * error
    assert whole.K > L_null(kernel, x0).mean()


def test_with_a_split_of_zero_there_is_one_network():
    model = ImageModel(**vars(small(split=0.0)))
    kernel = model.kernel()
    assert len(model.network.networks) == 1 and not model.network.above(kernel).any()
    counts, proposal = model.training_weights(kernel)
    assert torch.allclose(proposal, proposal_from(model.square * counts**2, 0.3))
    xt, t = torch.randn(3, 1, 8, 8), torch.tensor([2, 15, 30])
    assert torch.equal(
        model.reverse(kernel)(xt, t).mean, model.network.networks[0](kernel, xt, t).mean
    )


def test_each_network_has_half_of_the_draws(trained):
    model, _ = trained
    kernel = model.kernel()
    above = model.network.above(kernel)
    counts, proposal = model.training_weights(kernel)
    assert proposal[above].sum() == pytest.approx(0.5) and proposal[~above].sum() == pytest.approx(
        0.5
    )
    assert (proposal[:2] == 0).all() and (proposal[2:] > 0).all()
    assert counts[-1] == pytest.approx(kernel.alpha_bar[-1].item() ** -model.params.emphasis)
    # Within a network's steps the weights are those by the size of a term.
    pair = torch.nonzero(~above)[5:7, 0]
    by_size = proposal_from(model.square * counts**2, 0.3)
    assert proposal[pair[0]] / proposal[pair[1]] == pytest.approx(
        (by_size[pair[0]] / by_size[pair[1]]).item()
    )


def test_importance_sampling_beats_one_uniform_t(trained):
    model, _ = trained
    kernel = model.kernel()
    x0 = model.scale.dequantise(model.images[:400], torch.Generator().manual_seed(3))
    arguments = (kernel, model.reverse(kernel), x0, torch.Generator().manual_seed(5), 1)
    naive = sampled_bound(*arguments, stratified=False, replicates=8)
    ours = sampled_bound(*arguments, model.proposal(), replicates=8)
    assert ours.mc_se < naive.mc_se


def test_the_estimate_does_not_depend_on_the_block(trained):
    model, _ = trained
    kernel = model.kernel()
    x0 = model.scale.dequantise(model.images[:64], torch.Generator().manual_seed(3))
    a, b = (
        sampled_bound(
            kernel, model.reverse(kernel), x0, torch.Generator().manual_seed(5), 2, block=n
        )
        for n in (16, 64)
    )
    assert a.K == pytest.approx(b.K, rel=1e-5)


def test_weights_card_and_curve(trained, tmp_path):
    model, curve = trained
    save_trained(model, "mnist_dense", curve, tmp_path, "cpu")
    again = load_weights(tmp_path / "models" / "mnist_dense.safetensors", "mnist_dense")
    assert (
        again.params == model.params
        and again.scale == model.scale
        and again.validate.__self__.images is None
    )
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    card = json.loads((tmp_path / "models" / "mnist_dense.json").read_text())
    assert card["K_validation"] == curve[-1]["K_validation"]
    assert card["params"] == vars(model.params)
    lines = (tmp_path / "reports" / "plots" / "mnist_dense_training.csv").read_text().splitlines()
    assert lines[0] == "step,K,seconds,K_validation" and len(lines) == len(curve) + 1


@pytest.mark.parametrize(
    ("precision", "stored_in"),
    [("bfloat16", "float16"), ("bfloat16", "float32"), ("float32", "float32")],
)
def test_what_is_stored_computes_the_same(precision, stored_in, tmp_path):
    model, curve = train(
        "mnist_dense", small(precision=precision, stored_in=stored_in, train_steps=20)
    )
    for network in ("network.networks.0", "network.networks.1"):
        assert model.stored()[f"{network}.dense.0.weight"].dtype == getattr(torch, stored_in)
        assert model.stored()[f"{network}.readout.weight"].dtype == torch.float32
    assert model.stored()["network.networks.0.pixel.0.weight"].dtype == torch.float32
    save_trained(model, "mnist_dense", curve, tmp_path, "cpu")
    again = load_weights(tmp_path / "models" / "mnist_dense.safetensors", "mnist_dense")
    xt, t = (
        torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([2, 9, 20, 30]),
    )
    with torch.no_grad():
        ours, theirs = (m.reverse(m.kernel())(xt, t) for m in (model, again))
    assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.var, theirs.var)


def test_convolutions_after_the_first_lose_digits_on_disk_and_nothing_else_does():
    model = ImageModel(**vars(quick("mnist_conv", {"stored_in": "float16", "n_steps": 10})))
    halves = {name for name, value in model.stored().items() if value.dtype == torch.float16}
    convs = {name for name, _ in model.named_parameters() if name.startswith("network.convs")}
    assert (
        halves == {name for name in convs if not name.startswith("network.convs.0.")}
        and len(halves) > 4
    )


def test_an_interrupted_run_continues_bit_for_bit(tmp_path, monkeypatch):
    params = small(train_steps=40)
    whole, _ = train("mnist_dense", params)
    original = training.fit

    def stopped(*arguments):
        monkeypatch.setattr(experiment, "fit", original)
        K, calls, checkpoint = arguments[1], [], arguments[-1]._replace(every_seconds=0.0)

        def until(generator):
            calls.append(1)
            if len(calls) > 25:
                raise KeyboardInterrupt
            return K(generator)

        return original(arguments[0], until, *arguments[2:-1], checkpoint)

    monkeypatch.setattr(experiment, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        train("mnist_dense", params, tmp_path)
    continued, curve = train("mnist_dense", params, tmp_path)
    assert curve[-1]["step"] == 40
    for key, value in whole.state_dict().items():
        assert torch.equal(continued.state_dict()[key], value), key


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "learned"}, {"optimiser": "rmsprop", "learning_rate": 1e-3}, {"flip": True}],
)
def test_other_choices_train_too(changes):
    model, curve = train("mnist_dense", small(train_steps=20, **changes), log_every=20)
    start = ImageModel(**vars(model.params)).schedule()
    moved = (model.schedule() != start).sum().item()
    assert (moved == model.params.n_steps - 1) if "schedule" in changes else moved == 0, (
        "beta_1 is held, others learn"
    )
    assert torch.isfinite(torch.tensor(curve[-1]["K"]))


def test_absent_data_is_one_sentence_on_the_command_line(monkeypatch, capsys):
    def absent(_):
        raise DataError("mnist is not here; `make data` fetches it")

    monkeypatch.setattr("replication.data.textures.load_images", absent)
    assert main(["train", "mnist_dense"]) == 1
    assert capsys.readouterr().err.endswith("error: mnist is not here; `make data` fetches it\n")
    assert (
        main(["train", "mnist_dnese"]) == 2
        and "did you mean 'mnist_dense'?" in capsys.readouterr().err
    )
    assert (
        main(["train", "mnist_dense", "-p", "bumps=0"]) == 2
        and "mnist_dense.bumps is '0'" in capsys.readouterr().err
    )


def test_the_command_writes_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("replication.data.textures.load_images", lambda _: load_images("digits"))
    arguments = [f"{k}={v}" for k, v in dataclasses.asdict(small(train_steps=5)).items()]
    monkeypatch.setattr(experiment, "keep_freed_memory", lambda: None)
    options = [word for item in arguments for word in ("-p", item)]
    # Checkpoints of a test belong in the test's folder.
    monkeypatch.setattr(experiment, "ROOT", tmp_path)
    assert main(["train", "mnist_dense", *options, "--outputs", str(tmp_path)]) == 0
    assert "mnist_dense.safetensors: K = " in capsys.readouterr().out
    assert bits(1.0) > 1 and (tmp_path / "models" / "mnist_dense.safetensors").exists()


def test_a_thinned_chain_is_the_same_network_on_fewer_steps(trained):
    model, _ = trained
    x0 = model.scale.dequantise(load_images("digits").test, torch.Generator().manual_seed(0))
    whole, thin = model.thinned(model.params.n_steps), model.thinned(10)
    assert thin[0].T == 10 and torch.allclose(
        thin[0].alpha_bar[[1, 10]], whole[0].alpha_bar[[1, -1]]
    )
    K = [
        full_bound(*model.thinned(n), x0, torch.Generator().manual_seed(1)).K for n in (10, 20, 30)
    ]
    assert K[0] < K[1] < K[2], "longer steps lose something"
    same = model.reverse(whole[0])(x0, 7)
    assert torch.equal(whole[1](x0, 7).mean, same.mean)
    with pytest.raises(ParameterError, match="T = 30 a chain can keep 2 to 30"):
        model.thinned(31)


def test_a_thinned_chain_of_the_best_model_is_the_best_model_of_the_longer_steps():
    """For Gaussian data q(x^{t−1}|x^t) is known at every pair of noise levels, so thinning must
    turn one into the other.
    """
    model = ImageModel(**vars(small()))
    data_var = 0.3

    def exact(kernel, xt, t):
        prior, noise = (
            kernel.at(kernel.alpha_bar, t, xt) * data_var,
            kernel.at(kernel.one_minus_alpha_bar, t, xt),
        )
        var_x0 = data_var * noise / (prior + noise)
        mean_x0 = kernel.at(kernel.alpha_bar.sqrt(), t, xt) * data_var / (prior + noise) * xt
        q = kernel.q_posterior(mean_x0, xt, t)
        return Normal(q.mean, q.var + kernel.at(kernel.posterior_on_x0, t, xt) ** 2 * var_x0)

    del model.network
    model.network = exact
    thin, reverse = model.thinned(7)
    xt = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in range(2, 8):
        ours, best = reverse(xt, t), exact(thin, xt, t)
        assert torch.allclose(ours.mean, best.mean, rtol=1e-6, atol=1e-9)
        assert torch.allclose(ours.var, best.var, rtol=1e-6)
