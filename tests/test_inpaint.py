"""Filling in one's own picture, with an untrained model of the photographs' size."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from nonequilibrium.__main__ import main
from nonequilibrium.data.images import load_images
from nonequilibrium.diffusion.posterior import MaskError
from nonequilibrium.experiment.images import ImageModel
from nonequilibrium.experiment.weights import save_weights
from nonequilibrium.measure.inpaint import centre, inpaint, left, read_mask
from nonequilibrium.params import load, quick


@pytest.fixture(scope="module")
def model():
    params = dataclasses.replace(quick(load("cifar10_cpu")), n_steps=8)
    return ImageModel(params, load_images("photographs")).eval()


@pytest.fixture(scope="module")
def pictures():
    return load_images("photographs").test[:3]


@pytest.mark.parametrize("annealed", [False, True])
@pytest.mark.parametrize("known", [centre(32, 32), left(32, 32)])
def test_known_pixels_are_kept_and_the_others_drawn(model, pictures, known, annealed):
    filled = inpaint(model, pictures, known, [1, 2], annealed)
    assert filled.shape == (2, 3, 3, 32, 32) and filled.dtype == torch.uint8
    assert torch.equal(filled[:, :, :, known], pictures[:, :, known].expand(2, 3, 3, -1))
    assert (filled[0][:, :, ~known] != filled[1][:, :, ~known]).float().mean() > 0.9


def test_a_sample_does_not_depend_on_the_block(model, pictures):
    known = centre(32, 32)
    together = inpaint(model, pictures, known, [5], block=3)
    assert torch.equal(together, inpaint(model, pictures, known, [5], block=1))


def test_what_is_missing_is_not_looked_at(model, pictures):
    known = left(32, 32)
    spoilt = torch.where(known, pictures, 255 - pictures)
    assert torch.equal(inpaint(model, pictures, known, [5]), inpaint(model, spoilt, known, [5]))


def test_all_known_is_the_picture_and_all_missing_a_sample(model, pictures):
    assert torch.equal(inpaint(model, pictures, torch.ones(32, 32).bool(), [0])[0], pictures)
    nothing = torch.zeros(32, 32).bool()
    assert torch.equal(inpaint(model, pictures, nothing, [0]), inpaint(model, 255 - pictures, nothing, [0]))


def test_masks_that_do_not_fit(model, pictures, tmp_path):
    with pytest.raises(MaskError, match="must be boolean"):
        inpaint(model, pictures, torch.ones(32, 32), [0])
    with pytest.raises(MaskError, match="must fit images"):
        inpaint(model, pictures, torch.ones(16, 16).bool(), [0])
    np.save(tmp_path / "m.npy", np.ones((32, 32)))
    with pytest.raises(MaskError, match=r"float64 of shape \(32, 32\); it must be bool"):
        read_mask(str(tmp_path / "m.npy"), (3, 32, 32))
    with pytest.raises(MaskError, match="cannot be read"):
        read_mask(str(tmp_path / "absent.npy"), (3, 32, 32))


@pytest.mark.parametrize("kind", ["png", "npy", "name"])
def test_the_command_fills_in_a_file(model, pictures, tmp_path, capsys, kind):
    save_weights(model, "cifar10_cpu", tmp_path / "w.safetensors")
    picture = pictures[0].movedim(0, -1).numpy()
    Image.fromarray(picture).save(tmp_path / "p.png")
    known = centre(32, 32)
    mask = {"png": tmp_path / "m.png", "npy": tmp_path / "m.npy", "name": "centre"}[kind]
    if kind == "png":
        Image.fromarray(known.numpy()).save(mask)
    elif kind == "npy":
        np.save(mask, known.numpy())
    out = tmp_path / "new" / "out.png"
    words = [str(tmp_path / "p.png"), "--mask", str(mask), "--weights", str(tmp_path / "w.safetensors")]
    assert main(["inpaint", *words, "--samples", "2", "--out", str(out)]) == 0
    assert "256 pixels missing, then 2 samples" in capsys.readouterr().out
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (32, 96, 3)
    for column in range(3):
        part = sheet[:, 32 * column : 32 * column + 32]
        assert (part[known.numpy()] == picture[known.numpy()]).all()


def test_the_command_refuses_in_one_sentence(tmp_path, model, capsys):
    save_weights(model, "cifar10_cpu", tmp_path / "w.safetensors")
    Image.fromarray(np.zeros((20, 32, 3), np.uint8)).save(tmp_path / "p.png")
    (tmp_path / "text.png").write_text("no picture")
    weights = ["--weights", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "out.png")]
    for words, message in [
        ([str(tmp_path / "p.png")], "is 32×20; the model's images are 32×32"),
        ([str(tmp_path / "text.png")], "cannot be read as a picture"),
        ([str(tmp_path / "absent.png")], "cannot be read as a picture"),
        (["p.png", "--model", "swiss_roll"], "'swiss_roll' is unknown"),
        (["p.png", "--samples", "0"], "--samples is 0"),
    ]:
        assert main(["inpaint", *words, *weights]) in (1, 2)
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out.png").exists()
