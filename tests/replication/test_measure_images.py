"""How image experiments are measured: each part on a tiny model, its numbers beside an independent
call of what it measures with.
"""

import dataclasses

import pandas as pd
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from nonequilibrium.bound.bound import L_null, bits, block_se, mean_se, sampled_bound
from nonequilibrium.bound.parzen import in_unit_interval, parzen
from nonequilibrium.data.images import Scale
from nonequilibrium.diffusion.posterior import Denoise
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import ImageModel
from replication.data.images import load_images
from replication.measure import images
from replication.measure.baselines import histograms
from replication.measure.measured import Measured
from replication.measure.metrics import seeded
from replication.restoration.observations import DENOISING, others
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import evaluation, quick

TINY = {"n_steps": 12, "bumps": 3, "pixel_units": 4}
SIZES = {
    "mnist_dense": TINY | {"dense_units": 8},
    "mnist_dense_1x1": TINY | {"dense_units": 8},
    "mnist_conv": TINY | {"conv_channels": 4},
    "cifar10": TINY | {"conv_channels": 4, "conv_layers": 1, "scales": 2},
    "cifar10_unet": {"n_steps": 12, "channels": 4},
}
LITTLE = {
    "n_heldout": 12,
    "draws": 2,
    "n_shown": 3,
    "n_samples": 100,
    "thin_steps": 5,
}
MNIST, CIFAR = "mnist_dense", "cifar10"


def tiny(experiment):
    params = dataclasses.replace(quick(experiment), **SIZES[experiment])
    return ImageModel(load_images(params.data), **vars(params)).eval()


@pytest.fixture(scope="module")
def measured():
    """{experiment: (model, settings, what was measured)}; the networks are as they start."""
    result = {}
    for name in SIZES:
        model, its = tiny(name), evaluation(name, "quick", LITTLE)
        result[name] = model, its, images.evaluate(name, model, its)
    return result


@pytest.fixture(scope="module")
def chains(measured):
    with torch.no_grad():
        kernels = {name: model.kernel() for name, (model, _, _) in measured.items()}
    return {name: (kernel, measured[name][0].reverse(kernel)) for name, kernel in kernels.items()}


def heldout_of(model, its):
    test = load_images(model.params.data).test
    return model.scale.dequantise(test[: its.n_heldout], seeded(its.seed))


def shuffled(model, its):
    test = load_images(model.params.data).test
    return test[torch.randperm(len(test), generator=seeded(its.seed))]


@pytest.mark.parametrize("name", SIZES)
def test_K_and_its_parts_are_those_of_the_bound(measured, chains, name):
    model, its, found = measured[name]
    x0 = heldout_of(model, its)
    bound = sampled_bound(
        *chains[name], x0, seeded(its.seed + 2), its.draws, model.proposal(), block=100
    )
    n, K = found.numbers, bits(bound.per_example) / model.pixels
    assert n["K"] == pytest.approx(float(K.mean()), rel=1e-12)
    assert n["K_se"] == pytest.approx(bits(bound.se) / model.pixels)
    assert n["L_null"] == pytest.approx(
        bits(float(L_null(chains[name][0], x0).mean())) / model.pixels
    )
    assert (n["n_heldout"], n["draws"], n["seed"], n["unit"]) == (12, 2, 7, "bits per pixel")
    each, steps = found.arrays["K_per_example"], found.tables["K_by_time_step"]
    assert each.dtype == torch.float32 and torch.allclose(each.double(), K, rtol=1e-6)
    assert list(steps["t"]) == list(range(2, 13)) and (steps["K"] >= 0).all()
    rest = bits(float(bound.rest.mean())) / model.pixels
    assert rest - steps["K"].sum() == pytest.approx(n["K"]), "K is what is left of the exact terms"


def test_the_register_names_no_part_that_is_missing_and_none_is_idle(measured):
    named = {part for its in EXPERIMENTS.values() for part in its.parts}
    assert named == set(images.PARTS)
    assert "parzen" in measured[MNIST][2].numbers and "parzen" not in measured[CIFAR][2].numbers


def test_the_gain_of_one_model_over_another_is_paired(measured, monkeypatch):
    one, other = (measured[name][2] for name in (CIFAR, "cifar10_unet"))
    gain = (other.arrays["K_per_example"] - one.arrays["K_per_example"]).double()
    assert float(gain.mean()) == pytest.approx(other.numbers["K"] - one.numbers["K"], rel=1e-5)
    monkeypatch.setitem(EXPERIMENTS, CIFAR, dataclasses.replace(EXPERIMENTS[CIFAR], parts=()))
    again = images.evaluate(CIFAR, *measured[CIFAR][:2]).arrays["K_per_example"]
    assert torch.equal(again, one.arrays["K_per_example"]), (
        "a model gains nothing over itself, on any image"
    )


def test_what_was_measured_comes_back_from_disk(measured, tmp_path):
    for name, (_, _, found) in measured.items():
        found.save(tmp_path, name)
        again = Measured.load(tmp_path, name)
        assert again.numbers == found.numbers and again.arrays.keys() == found.arrays.keys()
        assert all(torch.equal(again.arrays[key], value) for key, value in found.arrays.items())
        for key, table in found.tables.items():
            pd.testing.assert_frame_equal(again.tables[key], table)
        pictures = {key: value for key, value in found.arrays.items() if key != "K_per_example"}
        assert all(value.dtype == torch.uint8 for value in pictures.values())


def test_histograms(measured):
    for name in (MNIST, CIFAR):
        model, _, found = measured[name]
        if name == MNIST:  # those of photographs take seconds
            costs = histograms(load_images(model.params.data), 200)
            row = found.numbers["histograms"]["a histogram for each pixel"]
            assert row["bits_per_dim"] == float(costs["a histogram for each pixel"].mean())
            assert row["se_blocks"] == block_se(costs["a histogram for each pixel"])
            assert row["se"] == mean_se(costs["a histogram for each pixel"])[1]
        assert len(found.numbers["histograms"]) == 2


def test_denoisers_learn_from_training_images_alone():
    """Other training images change the Wiener filter and the strength of non-local means."""
    data = load_images("photographs")
    scale, generator, shape = Scale.of(data.train), seeded(0), (20, 3, 32, 32)
    flat = torch.randint(0, 256, (20, 3, 1, 1), generator=generator).expand(shape)
    rough = torch.randint(0, 256, shape, generator=generator)
    noisy = DENOISING.seen(scale.dequantise(data.test[:2], seeded(1)), seeded(2))
    sets = [scale.dequantise(train.to(torch.uint8), seeded(3)) for train in (flat, rough)]
    one, other = (
        others(DENOISING, data.test[:2], noisy, scale, train, seeded(4))[0] for train in sets
    )
    for method in ("non-local means", "Wiener filter"):
        assert not torch.allclose(one[method], other[method], atol=0.05), method


def test_a_chain_is_thinned_to_at_most_all_its_steps(measured):
    model, its, _ = measured[MNIST]
    settings, data = dataclasses.replace(its, thin_steps=100), load_images(model.params.data)
    given = images.Given(MNIST, model, model.thinned(12), data, settings)
    assert images.window(given).numbers["thin_steps"] == 12


def test_the_window_of_the_models_samples_and_of_what_is_none(measured):
    for name in (MNIST, "mnist_dense_1x1"):
        model, its, found = measured[name]
        data = load_images(model.params.data)
        drawn = sample_each(*model.thinned(5), 100, (1, 8, 8), its.seed + 9)
        parts = model.scale.to_pixels(drawn), data.train[-200:], data.test
        mine = found.numbers["parzen"]["diffusion (ours)"]
        direct = parzen(*(in_unit_interval(part, 17) for part in parts))
        assert mine == {
            key: value if key == "sigma" else bits(value) for key, value in direct.items()
        }
    scores = measured[MNIST][2].numbers["parzen"]
    assert list(scores)[:2] == ["diffusion (ours)", "training images (ours)"] and len(scores) == 3
    assert scores["training images (ours)"]["mean"] > scores["diffusion (ours)"]["mean"]


def test_a_network_tells_noise_from_digits_and_not_digits_from_digits():
    data = load_images("digits")
    one, other = data.train[:1200:2], data.train[1:1200:2]
    data = data._replace(test=one)
    noise = torch.randint(17, one.shape, generator=torch.Generator().manual_seed(0))
    share = {}
    for name, x in {"same": other, "noise": noise.to(torch.uint8)}.items():
        share |= images._told_apart(name, in_unit_interval(x, 17), data)
    n = min(len(one), len(other))
    assert abs(share["same"]["accuracy"] - 0.5) < 4 * 0.5 / n**0.5
    assert share["noise"]["accuracy"] > 0.95
    assert share["same"]["se"] == pytest.approx(0.5 / n**0.5, rel=0.05)


def test_samples_are_told_apart_on_rows_that_were_not_seen(monkeypatch):
    monkeypatch.setattr(images, "MLPClassifier", lambda *_, **__: KNeighborsClassifier(1))
    data = load_images("digits")
    one, other = data.train[:1200:2], data.train[1:1200:2]
    told = images._told_apart("same", in_unit_interval(other, 17), data._replace(test=one))
    assert abs(told["same"]["accuracy"] - 0.5) < 0.1, "who remembers all rows is right on seen ones"


def test_as_many_samples_are_shown_as_the_figures_have(measured, chains):
    for name, offset in {MNIST: 4, "mnist_conv": 5, CIFAR: 9, "cifar10_unet": 9}.items():
        model, its, found = measured[name]
        drawn = sample_each(*chains[name], 3, model.network.shape, its.seed + offset)
        assert torch.equal(found.arrays["shown"], model.scale.to_pixels(drawn))


def test_samples_of_one_figure_are_of_the_same_noise():
    networks = [its for its in EXPERIMENTS.values() if its.notebook == "04_cifar10"]
    assert len(networks) > 1 and len({its.shown["offset"] for its in networks}) == 1


def test_halves_keep_what_is_known(measured):
    table, strips = measured[MNIST][2].tables["halves"], measured[MNIST][2].arrays["halves"]
    rows = {name: strip for name, strip in zip(table["strip"], strips, strict=True)}
    error = table.set_index("strip")["mean_square"]
    assert (
        strips.shape == (8, 10, 1, 8, 8) and error["held-out"] == 0 and 0.7 < error["SNR 1"] < 1.3
    )
    for number in (1, 2):
        assert torch.equal(
            rows[f"filled right half, sample {number}"][..., :4], rows["held-out"][..., :4]
        )
    assert not torch.equal(rows["filled right half, sample 1"], rows["filled right half, sample 2"])


def test_figure_3(measured, chains):
    model, its, found = measured[CIFAR]
    test = shuffled(model, its)
    held, noisy, posterior = found.arrays["figure_3"]
    assert torch.equal(held, test[:10])
    x = model.scale.dequantise(test[:10], seeded(its.seed + 6))
    seen = x + torch.randn(x.shape, generator=seeded(its.seed + 7))
    drawn = sample_each(
        *chains[CIFAR], 10, (3, 32, 32), its.seed + 8, lambda part, _: Denoise(seen[part], 1.0)
    )
    assert torch.equal(noisy, model.scale.to_pixels(seen)) and torch.equal(
        posterior, model.scale.to_pixels(drawn)
    )
    assert found.numbers["figure_3"]["posterior_mean_square"] == pytest.approx(
        float((drawn - x).square().mean())
    )
