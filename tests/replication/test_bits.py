"""`nonequilibrium bits`: any model, pictures of a folder, an error that is reached."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from nonequilibrium import adapters
from replication.__main__ import main
from replication.data.images import load_images, load_labels

PROGRAM = """
import numpy as np
from nonequilibrium import adapters

def model():
    def denoiser(x, sigma):
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)

    return adapters.from_edm(denoiser, np.geomspace(0.05, 20, 30))

def of_class():
    return adapters.from_edm(
        lambda x, s, y: x / (1 + s + y).reshape(-1, 1, 1, 1), np.geomspace(0.05, 20, 30)
    )

def broken():
    raise ValueError("no weights here")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """120 grey pictures in two subfolders and a module, in the current folder."""
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(60):
            pixels = random.integers(90, 160, (6, 6), dtype=np.uint8)
            kind = ("png", "bmp", "tiff")[number % 3]
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.{kind}")
    (tmp_path / "somebody.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bits(capsys, *words):
    status = main(["bits", *words, "--images", "pictures", "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return json.loads(said.out)


def test_a_function_is_measured_as_in_python(folder, capsys):
    record = bits(capsys, "somebody:model", "--draws", "3", "--map", "map.png")
    paths = sorted((folder / "pictures").rglob("*.*"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])[:, None]
    namespace: dict = {}
    exec(PROGRAM, namespace)
    cost = adapters.bits_per_dim(namespace["model"](), images, 10)
    assert abs(record["bits_per_dim"] - cost.bits_per_dim) < 4 * (record["mc_se"] + cost.mc_se)
    assert record["images"] == 120 and record["mc_se"] < record["se"]
    assert Image.open("map.png").mode == "L"
    fewer = bits(capsys, "somebody:model", "--steps", "5")
    assert fewer["bits_per_dim"] > record["bits_per_dim"]


def test_it_stops_at_the_error_that_is_asked_for_and_says_what_it_knows(
    folder, capsys, monkeypatch
):
    assert bits(capsys, "somebody:model", "--within", "9")["images"] == 120
    monkeypatch.setattr("replication.commands.bits.BLOCK", 20)
    assert bits(capsys, "somebody:model", "--within", "9")["images"] == 40
    whole, blocks = adapters.bits_per_dim, []

    def interrupted(*words, **options):
        if len(blocks) == 2:
            raise KeyboardInterrupt
        blocks.append(1)
        return whole(*words, **options)

    monkeypatch.setattr(adapters, "bits_per_dim", interrupted)
    assert main(["bits", "somebody:model", "--images", "pictures"]) == 0
    said = capsys.readouterr()
    assert "on 40 images" in said.out and "known so far" in said.err


def test_labels_are_the_subfolders(folder, capsys):
    record = bits(capsys, "somebody:of_class", "--labels", "--draws", "9")
    assert main(["bits", "somebody:of_class", "--images", "pictures"]) == 1
    assert "the step alone" in capsys.readouterr().err
    assert record["images"] == 120


def test_a_folder_that_diffusers_saved_and_weights_of_ours_are_models(folder, capsys):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    parts = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    parts |= {"block_out_channels": (8,), "norm_num_groups": 4, "sample_size": 6}
    network = diffusers.UNet2DModel(in_channels=1, out_channels=1, **parts)
    pipeline = diffusers.DDPMPipeline(network, diffusers.DDPMScheduler(20))
    pipeline.save_pretrained("saved")
    assert bits(capsys, "saved")["bits_per_dim"] > 0
    assert bits(capsys, "mnist_conv", "--draws", "1")["images"] == 120


@pytest.mark.parametrize(
    "words, message",
    [
        (["nothing", "--images", "pictures"], "MODEL is 'nothing'; it must be a folder"),
        (["somebody:broken", "--images", "pictures"], "not available: no weights here"),
        (["nobody:model", "--images", "pictures"], "No module named 'nobody'"),
        (["pictures", "--images", "pictures"], "is no pipeline that diffusers saved"),
        (["somebody:model", "--images", "saved"], "a folder with at least two pictures"),
        (["somebody:model", "--images", "photographs", "--labels"], "photographs has none"),
        (["somebody:model", "--images", "pictures", "--map", "x.gif"], "must name a format"),
    ],
)
def test_what_is_no_model_or_no_pictures_is_one_sentence(folder, capsys, words, message):
    assert main(["bits", *words]) in (1, 2)
    assert message in capsys.readouterr().err
    if "--map" not in words:
        Image.new("L", (5, 6)).save(folder / "pictures" / "wrong.png")
        assert main(["bits", "somebody:model", "--images", "pictures"]) == 1
        assert "the model's images are" in capsys.readouterr().err


def test_labels_of_cifar10_are_in_the_order_of_its_images():
    try:
        images, labels = load_images("cifar10"), load_labels("cifar10")
    except ValueError:
        pytest.skip("CIFAR-10 is not here")
    assert [len(part) for part in labels] == [len(images.train), len(images.test)]
    assert [torch.bincount(part).unique().tolist() for part in labels] == [[5000], [1000]]
