"""What ``load_weights`` refuses, in one sentence each."""

import dataclasses
import itertools
import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from nonequilibrium.errors import ParameterError, Refusal, WeightsError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.weights import load_weights, save_weights
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load, quick
from replication.training.outputs import save_trained


@pytest.fixture(autouse=True)
def few_sequences(monkeypatch):
    """The heartbeat's training set is made with every model, which here only takes time."""
    monkeypatch.setattr("nonequilibrium.model.toys.TRAINING_SEQUENCES", 1000)


IMAGES = dataclasses.replace(
    quick("mnist_dense"), n_steps=10, dense_units=8, pixel_units=4, bumps=3
)
MODEL_PARAMS = {
    "swiss_roll": load("swiss_roll", {"n_steps": 10}),
    "heartbeat": load("heartbeat", {"n_steps": 10, "hidden": 20, "knots": 4}),
    "mnist_dense": IMAGES,
}


@pytest.fixture(scope="module", params=list(MODEL_PARAMS))
def saved(request, tmp_path_factory):
    name = request.param
    model = EXPERIMENTS[name].model(**vars(MODEL_PARAMS[name]))
    if name == "mnist_dense":
        model.constants.copy_(torch.tensor([5.0, 6.0]))
    model.finish()
    path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
    save_weights(model, name, path)
    return name, path


def about_of(path):
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    return json.loads(header["__metadata__"]["nonequilibrium"])


def refused(path, name, sentence):
    with pytest.raises(WeightsError, match=sentence) as error:
        load_weights(path, name)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_missing_foreign_and_damaged_files(saved, tmp_path):
    name, path = saved
    other = "heartbeat" if name != "heartbeat" else "swiss_roll"
    none = f"no weights at .*; train them with `dvc repro --force train@{name}`"
    refused(tmp_path / "none.safetensors", name, none)
    refused(tmp_path, name, "no weights at")
    refused(path, other, f"holds weights of '{name}', not of '{other}'")
    with pytest.raises(ParameterError, match="did you mean 'mnist_conv'"):
        load_weights(path, "mnist_cnov")
    broken = tmp_path / "broken.safetensors"
    raw = path.read_bytes()
    for content in (
        raw[:1000],
        raw[:-4],
        raw + b"more",
        b"",
        b"PK\x03\x04" + bytes(100),
        b"\xff" * 64,
        b"text " * 50,
    ):
        broken.write_bytes(content)
        refused(broken, name, "not a whole safetensors file")


@pytest.mark.parametrize(
    "text", ["{oops", "[]", "null", "3", '"x"', "{}", '{"params": []}', "[" * 100_000, None]
)
def test_metadata_of_another_shape(saved, tmp_path, text):
    name, path = saved
    broken = tmp_path / "broken.safetensors"
    save_file(load_file(path), broken, None if text is None else {"nonequilibrium": text})
    refused(broken, name, "no readable experiment and parameters")


def test_parameters_that_are_unknown_missing_or_impossible(saved, tmp_path):
    name, path = saved
    broken, about, tensors = tmp_path / "broken.safetensors", about_of(path), load_file(path)

    def with_params(params):
        save_file(tensors, broken, {"nonequilibrium": json.dumps(about | {"params": params})})

    params = about["params"]
    with_params(params | {"colour": 1})
    refused(broken, name, "other parameters: .*'colour' is unknown")
    with_params({key: value for key, value in params.items() if key != "n_steps"})
    refused(
        broken, name, "does not fit the network of its own parameters"
    )  # the default is another
    with_params(params | {"seed": "x"})
    refused(broken, name, f"other parameters: {name}.seed is 'x'")
    if name != "heartbeat":
        with_params(
            params | {"alpha_bar_T": 0.9, "beta_1": 0.1, "schedule": "even_log_snr"}
            if name == "mnist_dense"
            else params | {"alpha_bar_T": 0.9, "beta_1": 0.1}
        )
        refused(broken, name, "no model can be built|other parameters|the schedule of its own")
    with_params(params | {"n_steps": 11})
    refused(broken, name, "does not fit the network of its own parameters")


def test_sizes_that_would_need_40_GB_are_refused_before_anything_is_allocated(
    saved, tmp_path, monkeypatch
):
    name, path = saved
    huge = {
        "swiss_roll": {"units": 4096, "n_steps": 1000},
        "heartbeat": {"hidden": 4096, "layers": 10},
        "mnist_dense": {"dense_units": 100_000, "dense_layers": 5},
    }[name]
    broken, about = tmp_path / "broken.safetensors", about_of(path)
    save_file(
        load_file(path),
        broken,
        {"nonequilibrium": json.dumps(about | {"params": about["params"] | huge})},
    )
    touched = []
    for filled in ("randn", "zeros"):
        real = getattr(torch, filled)

        def watched(*size, real=real, **options):
            touched.append(real(*size, **options).numel())
            return real(*size, **options)

        if name == "mnist_dense":
            monkeypatch.setattr(torch, filled, watched)
    refused(
        broken, name, "does not fit the network of its own parameters: it lacks a tensor of shape"
    )
    assert max(touched, default=0) < 10_000


def test_tensors_that_are_missing_superfluous_reshaped_or_of_another_dtype(saved, tmp_path):
    name, path = saved
    broken, metadata = (
        tmp_path / "broken.safetensors",
        {"nonequilibrium": json.dumps(about_of(path))},
    )
    key = {
        "swiss_roll": "network.rbf.centre",
        "heartbeat": "network.layers.0.weight",
        "mnist_dense": "square",
    }[name]
    tensors = load_file(path)
    for changed in (
        {k: v for k, v in tensors.items() if k != key},
        tensors | {"more": torch.zeros(2)},
        tensors | {key: tensors[key][:-1].contiguous()},
        tensors | {key: tensors[key][None].contiguous()},
        tensors | {key: tensors[key].half()},
        tensors | {key: tensors[key].to(torch.int32)},
        tensors | {key: tensors[key].to(torch.complex64)},
    ):
        save_file(changed, broken, metadata)
        refused(
            broken,
            name,
            "does not fit the network of its own parameters|not a whole safetensors file",
        )


def test_values_that_no_training_leaves(saved, tmp_path):
    name, path = saved
    broken, metadata = (
        tmp_path / "broken.safetensors",
        {"nonequilibrium": json.dumps(about_of(path))},
    )
    tensors = load_file(path)

    def with_value(key, place, value):
        changed = {k: v.clone() for k, v in tensors.items()}
        changed[key].view(-1)[place] = value
        save_file(changed, broken, metadata)

    for key, value in zip(
        tensors, itertools.cycle([float("nan"), float("inf"), -float("inf")]), strict=False
    ):
        with_value(key, -1, value)
        refused(broken, name, f"damaged: '{key}' holds values that are not finite")
    schedule = "schedule.beta_1" if name == "swiss_roll" else "schedule.beta"
    for value in (0.0, -1.0, 0.9, 2.0):
        with_value(schedule, 0, value)
        refused(broken, name, f"damaged: '{schedule}' is not the schedule")
    if name == "mnist_dense":
        for place, value in ((1, 0.0), (1, -5.0), (1, 1e-300), (1, 1e6), (0, -5.0), (0, 1e4)):
            with_value("constants", place, value)
            refused(broken, name, "damaged: its pixels have mean")
        with_value("square", 5, -1.0)
        refused(broken, name, "damaged: 'square'")


def test_a_flipped_bit_does_not_pass_the_card(tmp_path):
    model = ImageModel(**vars(IMAGES))
    model.constants.copy_(torch.tensor([5.0, 6.0]))
    curve = [{"step": 1, "K": 0.0, "seconds": 1.0, "K_validation": 0.0}]
    save_trained(model, "mnist_dense", curve, tmp_path, "cpu")
    path, card = (tmp_path / "models" / f"mnist_dense.{kind}" for kind in ("safetensors", "json"))
    load_weights(path, "mnist_dense")
    assert (
        path.stat().st_mode
        == card.stat().st_mode
        == (tmp_path / "reports/plots/mnist_dense_training.csv").stat().st_mode
    )
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    refused(
        path, "mnist_dense", r"not the file that its card mnist_dense.json describes \(SHA-256\)"
    )
    for text in ("", "[]", "{}", "null", "[" * 100_000):
        card.write_text(text)
        refused(path, "mnist_dense", "damaged card, mnist_dense.json")
    card.unlink()
    assert isinstance(load_weights(path, "mnist_dense"), ImageModel), (
        "without a card there is nothing to compare with"
    )


def test_a_refusal_is_one_that_the_command_prints():
    assert issubclass(WeightsError, Refusal) and WeightsError.status == 1
