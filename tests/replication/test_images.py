import hashlib

import numpy as np
import pytest
import torch

from nonequilibrium.data.images import Scale
from nonequilibrium.errors import ParameterError
from replication.data.images import DataError, load_images, load_labels, present
from replication.data.sources import DATA_SETS


def test_the_constants_give_mean_zero_and_variance_one_with_the_noise_included():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 40, (2000, 1, 8, 8), generator=generator, dtype=torch.uint8)
    scale = Scale.of(pixels)
    x = scale.dequantise(pixels, generator)
    assert x.dtype == torch.float32 and x.shape == pixels.shape
    assert x.mean().item() == pytest.approx(0, abs=0.005) and x.std().item() == pytest.approx(
        1, abs=0.005
    )
    noisy = pixels.double() + torch.rand(pixels.shape, generator=generator, dtype=torch.float64)
    assert scale.sigma == pytest.approx(noisy.std().item(), rel=2e-3)
    assert torch.equal(scale.to_pixels(x), pixels), (
        "noise of one grey level never changes the pixel"
    )


def test_known_constants_of_a_tiny_set():
    scale = Scale.of(torch.tensor([[[[0, 2]]]], dtype=torch.uint8))
    assert scale.mean == 1.5 and scale.sigma == pytest.approx((1 + 1 / 12) ** 0.5)


def test_to_pixels_clips():
    assert Scale(0.0, 1.0).to_pixels(torch.tensor([-3.0, 0.5, 999.0])).tolist() == [0, 0, 255]


def stand_in(monkeypatch, folder, name, contents):
    """Files of a data set with ``contents``, which it is then said to have been published with."""
    path = folder / DATA_SETS[name].folder
    path.mkdir()
    for file, content in contents.items():
        (path / file).write_bytes(content)
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setitem(DATA_SETS, name, DATA_SETS[name]._replace(files=sums))
    return path


def idx(values):
    return (
        bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes() + values.tobytes()
    )


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """A small MNIST: its folder and its images."""
    values = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    contents = {}
    for part, n in (("train", 5), ("t10k", 2)):
        contents |= {
            f"{part}-images-idx3-ubyte": idx(values[:n]),
            f"{part}-labels-idx1-ubyte": idx(labels[:n]),
        }
    return stand_in(monkeypatch, tmp_path, "mnist", contents), values


def test_mnist_files_are_read_in_order(tmp_path, mnist):
    folder, values = mnist
    found = load_images("mnist", tmp_path)
    assert (
        found.train.shape == (5, 1, 28, 28)
        and (found.train[:, 0].numpy() == values).all()
        and len(found.test) == 2
    )
    train, test = load_labels("mnist", tmp_path)
    assert train.tolist() == [0, 1, 2, 3, 4] and test.dtype == torch.int64 and len(test) == 2
    (folder / "t10k-labels-idx1-ubyte").unlink()
    assert not present("mnist", tmp_path), "label files are missing"
    with pytest.raises(DataError, match="is not in .*`make data` fetches it"):
        load_images("mnist", tmp_path)


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:7] + b"\3" + content[8:],
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "cut", "longer", "a bit", "header", "zeros"],
)
def test_damage_is_seen_on_load(tmp_path, mnist, file, damage):
    path = mnist[0] / file
    assert present("mnist", tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    said = f"{file} is damaged: its SHA-256 .*; `make data` fetches it anew$"
    with pytest.raises(DataError, match=said) as refusal:
        load_images("mnist", tmp_path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match="is damaged"):
        present("mnist", tmp_path)


def test_transposed_and_narrower_images_are_seen(tmp_path, mnist):
    folder, values = mnist
    for other in (values.swapaxes(1, 2), values[:, :, :27], values[::-1], values[:4]):
        (folder / "train-images-idx3-ubyte").write_bytes(idx(np.ascontiguousarray(other)))
        with pytest.raises(DataError, match="train-images-idx3-ubyte is damaged"):
            load_images("mnist", tmp_path)


def test_cifar10_files_are_read_in_order_with_channels_first(tmp_path, monkeypatch):
    records = np.random.default_rng(0).integers(0, 256, (12, 3073), dtype=np.uint8)
    names = list(DATA_SETS["cifar10"].files)
    folder = stand_in(
        monkeypatch,
        tmp_path,
        "cifar10",
        {n: records[2 * i : 2 * i + 2].tobytes() for i, n in enumerate(names)},
    )
    found = load_images("cifar10", tmp_path)
    assert found.train.shape == (10, 3, 32, 32) and found.test.shape == (2, 3, 32, 32)
    assert found.train[3, 2, 1, 5] == records[3, 1 + 2 * 1024 + 32 + 5]
    (folder / names[0]).rename(folder / "aside")
    (folder / names[1]).rename(folder / names[0])
    (folder / "aside").rename(folder / names[1])
    with pytest.raises(DataError, match="data_batch_1.bin is damaged: its SHA-256"):
        load_images("cifar10", tmp_path)


def test_absent_data_names_the_remedy(tmp_path):
    with pytest.raises(ParameterError, match="did you mean 'mnist'"):
        load_images("MNIST", tmp_path)
    for name in ("mnist", "cifar10"):
        with pytest.raises(DataError, match="`make data` fetches it"):
            load_images(name, tmp_path)


@pytest.mark.parametrize("name, shape", [("digits", (1, 8, 8)), ("photographs", (3, 32, 32))])
def test_what_ships_with_a_dependency_needs_no_download(name, shape):
    found = load_images(name)
    assert found.train.shape[1:] == shape and found.test.shape[1:] == shape
    assert len(found.train) > 300 and len(found.test) > 50 and found.train.dtype == torch.uint8
    assert int(found.train.max()) < found.levels
    flat = {bytes(image.numpy().tobytes()) for image in found.train}
    assert not any(image.numpy().tobytes() in flat for image in found.test), (
        "held-out images must not be trained on"
    )
