import numpy as np
import pytest
import torch

from nonequilibrium.data import images
from nonequilibrium.data.fetch import DATA_SETS
from nonequilibrium.data.images import DataError, Scale, load_images, present


def test_the_constants_give_mean_zero_and_variance_one_with_the_noise_included():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 40, (2000, 1, 8, 8), generator=generator, dtype=torch.uint8)
    scale = Scale.of(pixels)
    x = scale.dequantise(pixels, generator)
    assert x.dtype == torch.float32 and x.shape == pixels.shape
    assert x.mean().item() == pytest.approx(0, abs=0.005) and x.std().item() == pytest.approx(1, abs=0.005)
    noisy = pixels.double() + torch.rand(pixels.shape, generator=generator, dtype=torch.float64)
    assert scale.sigma == pytest.approx(noisy.std().item(), rel=2e-3)
    assert torch.equal(scale.to_pixels(x), pixels), "noise of one grey level never changes the pixel"


def test_known_constants_of_a_tiny_set():
    scale = Scale.of(torch.tensor([[[[0, 2]]]], dtype=torch.uint8))
    assert scale.mean == 1.5 and scale.sigma == pytest.approx((1 + 1 / 12) ** 0.5)


def test_to_pixels_clips():
    assert Scale(0.0, 1.0).to_pixels(torch.tensor([-3.0, 0.5, 999.0])).tolist() == [0, 0, 255]


def write_mnist(folder, part, values):
    header = b"\x00\x00\x08\x03" + np.array(values.shape, ">i4").tobytes()
    (folder / f"{part}-images-idx3-ubyte").write_bytes(header + values.tobytes())


def test_mnist_files_are_read_in_order(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    write_mnist(folder, "train", values)
    write_mnist(folder, "t10k", values[:2])
    assert not present("mnist", tmp_path), "label files are missing"
    for part in ("train", "t10k"):
        (folder / f"{part}-labels-idx1-ubyte").touch()
    found = load_images("mnist", tmp_path)
    assert found.train.shape == (5, 1, 28, 28) and (found.train[:, 0].numpy() == values).all() and len(found.test) == 2
    whole = (folder / "t10k-images-idx3-ubyte").read_bytes()
    (folder / "t10k-images-idx3-ubyte").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="holds 1567 values; its header promises 1568"):
        load_images("mnist", tmp_path)
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"hello")
    with pytest.raises(DataError, match="not an idx file"):
        load_images("mnist", tmp_path)


def test_cifar10_files_are_read_in_order_with_channels_first(tmp_path):
    folder = DATA_SETS["cifar10"].path(tmp_path)
    folder.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (12, 3073), dtype=np.uint8)
    for i, name in enumerate(DATA_SETS["cifar10"].files):
        records[2 * i : 2 * i + 2].tofile(folder / name)
    found = load_images("cifar10", tmp_path)
    assert found.train.shape == (10, 3, 32, 32) and found.test.shape == (2, 3, 32, 32)
    assert found.train[3, 2, 1, 5] == records[3, 1 + 2 * 1024 + 32 + 5]
    records[0, :100].tofile(folder / "test_batch.bin")
    with pytest.raises(DataError, match="100 bytes long"):
        load_images("cifar10", tmp_path)


def test_absent_data_names_the_remedy(tmp_path):
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
    assert not any(image.numpy().tobytes() in flat for image in found.test), "held-out images must not be trained on"
    assert images.SOURCES.keys() == {"mnist", "cifar10", "digits", "photographs"}
