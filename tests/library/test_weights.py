"""What ``load_weights`` refuses, in one sentence each."""

import dataclasses
import itertools
import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from nonequilibrium.bound.bound import bits, sampled_bound
from nonequilibrium.errors import Refusal, WeightsError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.textures import LeavesModel, TextureModel
from nonequilibrium.model.toys import HeartbeatModel, PointsModel
from nonequilibrium.model.weights import built, load_weights, weights_bytes
from nonequilibrium.network.image import ImageNetwork, SplitNetwork
from nonequilibrium.network.toys import MLPNetwork, RBFNetwork
from nonequilibrium.network.unet import UNet
from replication.data.images import load_images
from replication.files import ROOT
from replication.settings import params
from replication.settings.registry import EXPERIMENTS
from replication.settings.settings import load, quick
from replication.training.train import save_trained


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


def image_model():
    model = ImageModel(**vars(IMAGES))
    model.constants.copy_(torch.tensor([5.0, 6.0]))
    model.finish()
    return model


@pytest.fixture(scope="module", params=list(MODEL_PARAMS))
def saved(request, tmp_path_factory):
    name = request.param
    images = name == "mnist_dense"
    model = image_model() if images else EXPERIMENTS[name].model(**vars(MODEL_PARAMS[name]))
    model.finish()
    path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
    path.write_bytes(weights_bytes(model, name))
    return name, path


def about_of(path):
    """Experiment and settings, as files had them before there were digests."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    about = json.loads(header["__metadata__"]["nonequilibrium"])
    about.pop("sha256")
    return about


def write(path, tensors, about):
    save_file(tensors, path, {"nonequilibrium": json.dumps(about)})


def refused(path, name, sentence):
    with pytest.raises(WeightsError, match=sentence) as error:
        load_weights(path, name)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_missing_foreign_and_damaged_files(saved, tmp_path):
    name, path = saved
    other = "heartbeat" if name != "heartbeat" else "swiss_roll"
    none = f"no weights at .*; train them with `nonequilibrium train {name}`"
    refused(tmp_path / "none.safetensors", name, none)
    refused(tmp_path, name, "no weights at")
    refused(path, other, f"holds weights of '{name}', not of '{other}'")
    broken, raw = tmp_path / "broken.safetensors", path.read_bytes()
    damaged = raw[:1000], raw[:-4], raw + b"more", b"", b"PK\x03\x04" + bytes(100), b"\xff" * 64
    for content in (*damaged, b"text " * 50):
        broken.write_bytes(content)
        refused(broken, name, "cannot be read as weights")


@pytest.mark.parametrize(
    "text", ["{oops", "[]", "null", "3", '"x"', "{}", '{"params": []}', "[" * 100_000, None]
)
def test_metadata_of_another_shape(saved, tmp_path, text):
    name, path = saved
    broken = tmp_path / "broken.safetensors"
    save_file(load_file(path), broken, None if text is None else {"nonequilibrium": text})
    refused(broken, name, "cannot be read as weights")


def test_settings_that_are_unknown_missing_or_impossible(saved, tmp_path):
    name, path = saved
    broken, about, tensors = tmp_path / "broken.safetensors", about_of(path), load_file(path)
    given = about["params"]
    others = [
        (given | {"colour": 1}, "'colour' is unknown"),
        # The default is another.
        ({key: value for key, value in given.items() if key != "n_steps"}, "does not fit"),
        (given | {"seed": "x"}, "seed is 'x'"),
        (given | {"n_steps": 11}, "does not fit the network of its own settings"),
    ]
    if name != "heartbeat":
        others.append((given | {"alpha_bar_T": 0.9, "beta_1": 0.1}, "0.9|the schedule of its own"))
    if name == "mnist_dense":
        others += [(given | {key: "x"}, f"{key} is 'x'") for key in ("mean", "activation", "data")]
    for settings, sentence in others:
        write(broken, tensors, about | {"params": settings})
        refused(broken, name, sentence)


@pytest.mark.parametrize("name", ["n_steps", "layers", "units", "dense_units", "bumps"])
def test_a_size_beyond_the_file_is_refused_before_anything_is_allocated(saved, tmp_path, name):
    experiment, path = saved
    about = about_of(path)
    if name in about["params"]:
        broken = tmp_path / "broken.safetensors"
        write(broken, load_file(path), about | {"params": about["params"] | {name: 10**9}})
        refused(broken, experiment, f"own settings: {name} is 1000000000, more than the file holds")


def test_tensors_that_are_missing_superfluous_reshaped_or_of_another_dtype(saved, tmp_path):
    name, path = saved
    key = {"swiss_roll": "network.rbf.centre", "heartbeat": "network.layers.0.weight"}
    key = key.get(name, "square")
    broken, tensors = tmp_path / "broken.safetensors", load_file(path)
    for changed in (
        {k: v for k, v in tensors.items() if k != key},
        tensors | {"more": torch.zeros(2)},
        tensors | {key: tensors[key][:-1].contiguous()},
        tensors | {key: tensors[key][None].contiguous()},
        tensors | {key: tensors[key].half()},
        tensors | {key: tensors[key].to(torch.int32)},
        tensors | {key: tensors[key].to(torch.int64)},
    ):
        write(broken, changed, about_of(path))
        refused(broken, name, "does not fit the network of its own settings|cannot be read")
    content = broken.read_bytes()  # complex, which safetensors before 0.7 cannot write
    assert b'"I64"' in content
    broken.write_bytes(content.replace(b'"I64"', b'"C64"'))
    refused(broken, name, "does not fit the network of its own settings|cannot be read")


def test_values_that_no_training_leaves(saved, tmp_path):
    name, path = saved
    broken, tensors = tmp_path / "broken.safetensors", load_file(path)

    def with_value(key, place, value):
        changed = {k: v.clone() for k, v in tensors.items()}
        changed[key].view(-1)[place] = value
        write(broken, changed, about_of(path))

    for key, value in zip(
        tensors, itertools.cycle([float("nan"), float("inf"), -float("inf")]), strict=False
    ):
        with_value(key, -1, value)
        refused(broken, name, f"damaged: '{key}' holds values that are not finite")
    schedule = "schedule.beta_1" if name == "swiss_roll" else "schedule.beta"
    for value in (0.0, -1.0, 0.9, 2.0):
        with_value(schedule, 0, value)
        refused(broken, name, f"damaged: '{schedule}' is not the schedule")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Weights without a value of zero, as they are written: with a digest and without a card."""
    model = image_model()
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(weight.numel()))
    path = tmp_path_factory.mktemp("written") / "mnist_dense.safetensors"
    path.write_bytes(weights_bytes(model, "mnist_dense"))
    return path


def setting(name, value):
    return f'\\"{name}\\": \\"{value}\\"'.encode()


CONSTANTS = struct.pack("<2d", 5, 6)
TAMPERED = {
    "a flipped bit": lambda raw: raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:],
    "a zeroed page": lambda raw: raw[:-4100] + bytes(4096) + raw[-4:],
    "mean": lambda raw: raw.replace(setting("mean", "velocity"), setting("mean", "paper") + b"   "),
    "activation": lambda raw: raw.replace(
        setting("activation", "softplus"), setting("activation", "tanh") + b"    "
    ),
    "swapped constants": lambda raw: raw.replace(CONSTANTS, CONSTANTS[8:] + CONSTANTS[:8]),
}


@pytest.mark.parametrize("change", TAMPERED)
def test_what_was_altered_after_it_was_written_is_refused(written, tmp_path, change, capsys):
    raw, broken = written.read_bytes(), tmp_path / "mnist_dense.safetensors"
    altered = TAMPERED[change](raw)
    assert len(altered) == len(raw) and altered != raw
    broken.write_bytes(altered)
    refused(broken, "mnist_dense", r"is damaged: it is not what was written \(SHA-256\)")
    broken.write_bytes(raw)
    load_weights(broken, "mnist_dense")
    assert not capsys.readouterr().err


def test_no_bit_of_a_file_can_be_flipped(written, tmp_path):
    raw, broken = written.read_bytes(), tmp_path / "mnist_dense.safetensors"
    for place in torch.randint(8 * len(raw), (100,), generator=torch.Generator().manual_seed(0)):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << int(place % 8)
        broken.write_bytes(flipped)
        refused(broken, None, "is damaged|cannot be read|own settings")


def test_a_file_without_digest_and_card_is_remarked_upon_once(written, tmp_path, capsys):
    old = tmp_path / "old.safetensors"
    write(old, load_file(written), about_of(written))
    load_weights(old)
    assert capsys.readouterr().err == f"{old} has no digest and no card; damage may go unnoticed\n"
    load_weights(ROOT / "models" / "bark.safetensors")
    assert not capsys.readouterr().err, "the committed files have cards"


def test_a_flipped_bit_does_not_pass_the_card(tmp_path):
    model = image_model()
    curve = [{"step": 1, "K": 0.0, "seconds": 1.0, "K_validation": 0.0}]
    save_trained(model, "mnist_dense", curve, tmp_path, "cpu")
    path, card = (tmp_path / "models" / f"mnist_dense.{kind}" for kind in ("safetensors", "json"))
    load_weights(path, "mnist_dense")
    csv = tmp_path / "reports/plots/mnist_dense_training.csv"
    assert path.stat().st_mode == card.stat().st_mode == csv.stat().st_mode
    other = r"is not what its card mnist_dense.json says \(SHA-256\)"
    whole, raw = path.read_bytes(), bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    refused(path, "mnist_dense", other)
    path.write_bytes(whole)
    for text in ("", "[]", "{}", "null", "[" * 100_000):
        card.write_text(text)
        refused(path, "mnist_dense", other)
    card.unlink()
    assert isinstance(load_weights(path, "mnist_dense"), ImageModel)


def test_a_refusal_is_one_that_the_command_prints():
    assert issubclass(WeightsError, Refusal) and WeightsError.status == 1


@pytest.mark.parametrize(
    ("stated", "family", "network"),
    [
        (params.PointsParams, PointsModel, RBFNetwork),
        (params.HeartbeatParams, HeartbeatModel, MLPNetwork),
        (params.PaperNetworkParams, ImageModel, ImageNetwork),
        (params.SplitNetworkParams, ImageModel, SplitNetwork),
        (params.UNetParams, ImageModel, UNet),
        (params.TextureParams, TextureModel, ImageNetwork),
        (params.LeavesParams, LeavesModel, ImageNetwork),
        (params.LeavesUNetParams, LeavesModel, UNet),
    ],
)
def test_defaults_are_those_of_the_experiments_and_name_the_family(stated, family, network):
    data = {"data": family.defaults["data"]} if "data" in family.defaults else {}
    settings = vars(stated(**data))
    defaults = {**family.defaults, **network.defaults}
    assert {name: defaults.get(name) for name in settings} == settings
    small = {"n_steps": 10, "dense_units": 8, "channels": 2, "units": 2}
    model = built(settings | {name: small[name] for name in small if name in settings})
    assert type(model) is family and type(model.network) is network


@pytest.mark.parametrize(("name", "K"), [("cifar10", -1.5263), ("cifar10_unet", 0.7407)])
def test_stored_weights_mean_what_they_meant(name, K):
    """K of committed weights on images that a library ships; recorded, in bits per pixel."""
    model = load_weights(ROOT / "models" / f"{name}.safetensors", name)
    x0 = model.scale.dequantise(
        load_images("photographs").test[:4], torch.Generator().manual_seed(0)
    )
    kernel, random = model.kernel(), torch.Generator().manual_seed(1)
    bound = sampled_bound(kernel, model.reverse(kernel), x0, random, 5, model.proposal())
    assert bits(bound.K) / model.pixels == pytest.approx(K, abs=0.002)
