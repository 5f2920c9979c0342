"""Filling in pictures of any size: nothing that matters is cut away."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from nonequilibrium.model.textures import TextureModel
from nonequilibrium.model.weights import weights_bytes
from replication.__main__ import main
from replication.data.pictures import PictureError, read_picture
from replication.data.textures import load_pictures
from replication.restoration.inpaint_any import around, coarsest, convolutional, fill, sees
from replication.settings.settings import quick


@pytest.fixture(scope="module")
def model():
    params = dataclasses.replace(quick("bark"), n_steps=6, conv_layers=2, precision="float32")
    model = TextureModel(load_pictures("textures", 1, 32), **vars(params)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # an untrained readout is zero and sees nothing
        for parameter in model.network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def picture():
    return load_pictures("textures", 1, 32).test[0][:, :150, :203]


def hole(picture, top=60, left=90, side=20):
    known = torch.ones(picture.shape[1:], dtype=torch.bool)
    known[top : top + side, left : left + side] = False
    return known


def test_what_an_output_sees_is_exactly_what_is_said(model):
    """Derivatives reach as far as stated before rounding up to coarse pixels, and no further."""
    params, kernel = model.params, model.kernel()
    far = (params.conv_layers + 1) * 2 ** (params.scales - 1) - 1
    x = torch.randn(1, 1, 120, 120, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reach = 0
    for middle in range(56, 64):
        seen = torch.autograd.grad(model.reverse(kernel)(x, 3).mean[0, 0, middle, middle], x)[0][
            0, 0
        ]
        rows = torch.nonzero(seen.abs().sum(1))[:, 0]
        reach = max(reach, middle - int(rows[0]), int(rows[-1]) - middle)
    assert reach == far <= sees(params) and sees(params) % coarsest(params) == 0


def test_the_network_computes_around_a_hole_what_it_would_in_the_whole_picture(model, picture):
    missing = ~hole(picture)
    rows, columns = around(missing, model.params)
    frame = (..., rows, columns)
    assert rows.stop - rows.start < 150 and columns.stop - columns.start < 203
    x = model.scale.dequantise(picture, torch.Generator().manual_seed(1))
    x, kernel = F.pad(x, (0, 1, 0, 2))[None], model.kernel()
    with torch.no_grad():
        whole, part = model.reverse(kernel)(x, 3), model.reverse(kernel)(x[frame], 3)
    place = missing[frame]
    for a, b in zip(whole, part, strict=True):
        assert torch.allclose(a[frame][..., place], b[..., place], atol=1e-5)
        assert not torch.allclose(a[frame], b, atol=1e-5), "the rim lacks what is beyond it"


def test_a_frame_reaches_beyond_a_picture_that_coarse_pixels_do_not_divide(model):
    missing = torch.zeros(50, 61, dtype=torch.bool)
    missing[49, 60] = True
    rows, columns = around(missing, model.params)
    assert (rows.stop, columns.stop) == (52, 64)


@pytest.mark.parametrize("r", ["constant", "replacement", "through"])
def test_known_pixels_stay_and_the_hole_is_filled(model, picture, r):
    known = hole(picture)
    filled = fill(model, picture, known, [1, 2], r, 6, 2)
    assert filled.shape == (2, *picture.shape) and filled.dtype == torch.uint8
    assert torch.equal(filled[:, :, known], picture[:, known].expand(2, -1, -1))
    assert (filled[0][:, ~known] != filled[1][:, ~known]).float().mean() > 0.5
    spoilt = torch.where(known, picture, 255 - picture)
    assert torch.equal(filled, fill(model, spoilt, known, [1, 2], r, 6, 2)), (
        "what is missing is not looked at"
    )
    assert torch.equal(fill(model, picture, known | True, [1], r, 6, 2)[0], picture)


def test_which_models_take_any_size():
    assert [
        name
        for name in ("bark", "mnist_conv", "mnist_dense", "cifar10_unet")
        if convolutional(quick(name))
    ] == [
        "bark",
        "mnist_conv",
    ]


def test_the_command_on_a_picture_of_its_own_size(model, picture, tmp_path, capsys):
    (tmp_path / "bark.safetensors").write_bytes(weights_bytes(model, "bark"))
    Image.fromarray(picture[0].numpy()).save(tmp_path / "a.png")
    words = [
        "inpaint",
        str(tmp_path / "a.png"),
        "--model",
        "bark",
        "--weights",
        str(tmp_path / "bark.safetensors"),
    ]
    words += [
        "--samples",
        "2",
        "--steps",
        "3",
        "--r",
        "constant",
        "--out",
        str(tmp_path / "out.png"),
    ]
    assert main(words) in (0, None)
    filled = np.asarray(Image.open(tmp_path / "out-1.png"))
    assert filled.shape == (150, 203) and (filled[0] == picture[0, 0].numpy()).all()
    assert not (filled == picture[0].numpy()).all()
    (tmp_path / "b.png").write_text("no picture")
    assert main([words[0], str(tmp_path / "b.png"), *words[2:]]) not in (0, None)
    said = capsys.readouterr().err.strip()
    assert "damaged or of no kind" in said and "\n" not in said


def test_the_size_of_a_picture_that_lies_on_its_side(tmp_path):
    image = Image.new("L", (30, 20))
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_picture(tmp_path / "a.jpg", (1,))[0].shape == (1, 30, 20)
    Image.new("1", (5000, 5000)).save(tmp_path / "b.png")
    with pytest.raises(PictureError, match="is 5000×5000; a picture may have 16,777,216 pixels"):
        read_picture(tmp_path / "b.png", (1,))
