"""Filling in one's own picture, with an untrained model of the photographs' size."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from PIL import Image

from nonequilibrium.errors import ParameterError
from nonequilibrium.model.images import ImageModel
from nonequilibrium.model.textures import TextureModel
from nonequilibrium.model.weights import weights_bytes
from replication.__main__ import main
from replication.data.images import load_images
from replication.data.pictures import LOSSLESS, PictureError, save_pictures
from replication.data.textures import load_pictures
from replication.files import ROOT
from replication.restoration import inpaint_any
from replication.restoration.inpaint import FACTORS, centre, check_out, inpaint, left, read_mask
from replication.restoration.restorations import photograph
from replication.settings.settings import quick


@pytest.fixture(scope="module")
def model():
    # Untrained, it has the law of white noise only where z is the velocity; where it is the noise
    # it saturates every pixel.
    params = dataclasses.replace(quick("cifar10"), n_steps=8, mean="velocity")
    return ImageModel(load_images("photographs"), **vars(params)).eval()


@pytest.fixture(scope="module")
def pictures():
    return load_images("photographs").test[:3]


def asked(folder):
    """The words of ``inpaint`` for the picture and the weights of ``folder``."""
    weights = str(folder / "w.safetensors")
    return [str(folder / "p.png"), "--model", "cifar10", "--weights", weights]


@pytest.mark.parametrize("r", FACTORS)
@pytest.mark.parametrize("known", [centre(32, 32), left(32, 32)])
def test_known_pixels_are_kept_and_the_others_drawn(model, pictures, known, r):
    filled = inpaint(model, pictures, known, [1, 2], r)
    assert filled.shape == (2, 3, 3, 32, 32) and filled.dtype == torch.uint8
    assert torch.equal(filled[:, :, :, known], pictures[:, :, known].expand(2, 3, 3, -1))
    assert (filled[0][:, :, ~known] != filled[1][:, :, ~known]).float().mean() > 0.9


@pytest.mark.parametrize("anywhere", [False, True])
def test_what_fills_a_hole_is_kept_within_what_pixels_can_be(
    model, pictures, anywhere, monkeypatch
):
    """A chain of few steps that was thrown off once ended as coloured confetti."""
    given, real = [], inpaint_any.filled_between
    monkeypatch.setattr(inpaint_any, "filled_between", lambda *its: given.append(its) or real(*its))
    if anywhere:
        picture = load_pictures("textures", 1, 32).test[0][:, :60, :60]
        model = TextureModel(
            load_pictures("textures", 1, 32),
            **vars(quick("bark", {"n_steps": 6, "conv_layers": 2})),
        ).eval()
        inpaint_any.fill(model, picture, centre(60, 60), [0], "through", 6, 1)
    else:
        inpaint(model, pictures, centre(32, 32), [0])
    least, most = given[0][-1]
    ends = torch.tensor([[0, 255]], dtype=torch.uint8)
    x0 = torch.stack(
        [model.scale.dequantise(ends, torch.Generator().manual_seed(k)) for k in range(50)]
    )
    assert least <= x0.min() < least + 0.02 and most - 0.02 < x0.max() <= most


def test_a_sample_does_not_depend_on_the_images_beside_it(model, pictures):
    known = centre(32, 32)
    together, alone = (inpaint(model, part, known, [5]) for part in (pictures, pictures[:1]))
    assert torch.equal(together[:, :1], alone)


def test_what_is_missing_is_not_looked_at(model, pictures):
    known = left(32, 32)
    spoilt = torch.where(known, pictures, 255 - pictures)
    assert torch.equal(inpaint(model, pictures, known, [5]), inpaint(model, spoilt, known, [5]))


def test_all_known_is_the_picture_and_all_missing_a_sample(model, pictures):
    assert torch.equal(inpaint(model, pictures, torch.ones(32, 32).bool(), [0])[0], pictures)
    nothing = torch.zeros(32, 32).bool()
    assert torch.equal(
        inpaint(model, pictures, nothing, [0]), inpaint(model, 255 - pictures, nothing, [0])
    )


def test_masks_that_do_not_fit(model, pictures, tmp_path):
    with pytest.raises(ParameterError, match="must be boolean"):
        inpaint(model, pictures, torch.ones(32, 32), [0])
    with pytest.raises(ParameterError, match="must fit images"):
        inpaint(model, pictures, torch.ones(16, 16).bool(), [0])
    with pytest.raises(ParameterError, match="must be boolean"):
        inpaint(model, pictures, centre(32, 32).numpy(), [0])
    with pytest.raises(PictureError, match="there is no such file"):
        read_mask(str(tmp_path / "absent.npy"), (3, 32, 32))


def test_pixels_and_seeds_that_cannot_work(model, pictures):
    known = centre(32, 32)
    for pixels in (pictures[0], pictures / 255, pictures[:, :1], pictures[..., :16]):
        with pytest.raises(PictureError, match="they must be uint8 of"):
            inpaint(model, pixels, known, [0])
    with pytest.raises(ParameterError, match="seeds is empty"):
        inpaint(model, pictures, known, [])
    with pytest.raises(ValueError, match="number of steps is 0"):
        inpaint(model, pictures, known, [0], n_steps=0)


def test_names_of_masks_and_near_misses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, mask in [
        ("centre", centre),
        ("Centre", centre),
        ("center", centre),
        ("CENTER", centre),
        ("Left", left),
    ]:
        assert torch.equal(read_mask(name, (3, 32, 32)), mask(32, 32))
    for name, hint in [("left-half", "'left'"), ("centr", "'centre'"), ("Centred", "'centre'")]:
        with pytest.raises(ParameterError, match=f"did you mean {hint}"):
            read_mask(name, (3, 32, 32))
    with pytest.raises(ParameterError, match="must be one of centre, left, a file"):
        read_mask("top", (3, 32, 32))
    Image.fromarray(left(32, 32).numpy()).save(tmp_path / "top", "PNG")
    assert torch.equal(read_mask("top", (3, 32, 32)), left(32, 32))


@pytest.mark.parametrize("kind", ["png", "name"])
def test_the_command_fills_in_a_file(model, pictures, tmp_path, capsys, kind):
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(model, "cifar10"))
    picture = pictures[0].movedim(0, -1).numpy()
    Image.fromarray(picture).save(tmp_path / "p.png")
    known = centre(32, 32)
    mask = {"png": tmp_path / "m.png", "name": "centre"}[kind]
    if kind == "png":
        Image.fromarray(known.numpy()).save(mask)
    out = tmp_path / "new" / "out.png"
    words = [
        str(tmp_path / "p.png"),
        "--mask",
        str(mask),
        "--model",
        "cifar10",
        "--weights",
        str(tmp_path / "w.safetensors"),
    ]
    assert main(["inpaint", *words, "--samples", "2", "--out", str(out)]) == 0
    assert "256 pixels missing, then 2 samples" in capsys.readouterr().out
    for number in (1, 2):
        part = np.asarray(Image.open(out.with_stem(f"out-{number}")))
        assert (part[known.numpy()] == picture[known.numpy()]).all()
    sheet = np.asarray(Image.open(out))
    assert sheet.shape[1] == 5 * (192 + 12) - 12, "known, two samples, mean, spread, with gaps"
    assert (sheet[: 6 * 4, : 6 * 4][::6, ::6] == picture[:4, :4]).all()


def test_what_is_transparent_is_filled_in_too(model, pictures, tmp_path, capsys):
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(model, "cifar10"))
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[:4] = 0
    Image.fromarray(np.dstack([pictures[0].movedim(0, -1).numpy(), alpha])).save(tmp_path / "p.png")
    out = tmp_path / "out.png"
    words = [
        *asked(tmp_path),
        "--out",
        str(out),
        "--samples",
        "1",
    ]
    for mask, missing in [
        ([], 128),
        (["--mask", "centre"], 384),
        (["--mask", "left"], 16 * 32 + 64),
    ]:
        assert main(["inpaint", *words, *mask]) == 0
        assert f"{missing} pixels missing" in capsys.readouterr().out
    Image.fromarray(np.dstack([alpha] * 3)).save(
        tmp_path / "m.png"
    )  # nothing is left of what both show
    Image.fromarray(np.dstack([alpha] * 3 + [255 - alpha])).save(tmp_path / "p.png")
    assert main(["inpaint", *words, "--mask", str(tmp_path / "m.png")]) == 2
    assert "leaves nothing known" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ending", LOSSLESS)
def test_what_is_written_is_what_is_read(tmp_path, ending, channels):
    pixels = torch.randint(
        0, 256, (channels, 32, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    save_pictures({tmp_path / f"new/out{ending.upper()}": pixels})
    array = np.asarray(Image.open(tmp_path / f"new/out{ending.upper()}"))
    assert (array.reshape(32, 96, channels) == pixels.movedim(0, -1).numpy()).all()
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_out_is_checked_before_anything_else(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "replication.restoration.inpaint.load_weights", lambda *_: pytest.fail("work has begun")
    )
    picture, mask = tmp_path / "p.png", tmp_path / "m.png"
    for path in (picture, mask):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    (tmp_path / "link.png").symlink_to(picture)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    before = sorted(tmp_path.iterdir())
    for out, message in [
        ("out.jpg", "format without loss"),
        ("out.JPEG", "format without loss"),
        ("out.webp", "format without loss"),
        ("out.gif", "format without loss"),
        ("out", "format without loss"),
        ("", "format without loss"),
        ("p.png", "is the same file as"),
        ("m.png", "is the same file as"),
        ("link.png", "is the same file as"),
        ("folder.png", "it is a folder"),
        ("fifo.png", "no file that could be replaced"),
        ("p.png/out.png", "cannot be written"),
        ("p.png/new/out.png", "cannot be written"),
        ("x" * 300 + ".png", "cannot be written"),
        ("x" * 300 + "/out.png", "cannot be written"),
        ("/proc/out.png", "cannot be written"),
    ]:
        assert main(
            ["inpaint", str(picture), "--mask", str(mask), "--out", str(tmp_path / out)]
        ) in (1, 2)
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    for out in ("out.png", "p2.png", "a/b/c/out.tif"):
        check_out(tmp_path / out, [picture, mask])
    assert sorted(tmp_path.iterdir()) == before


def test_a_disk_that_fails_leaves_nothing_half_written(
    model, pictures, tmp_path, capsys, monkeypatch
):
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(model, "cifar10"))
    Image.fromarray(pictures[0].movedim(0, -1).numpy()).save(tmp_path / "p.png")
    (tmp_path / "out.png").write_text("an earlier result")

    def save(picture, path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    words = [
        *asked(tmp_path),
        "--samples",
        "1",
    ]
    assert main(["inpaint", *words, "--out", str(tmp_path / "out.png")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "out.png").read_text() == "an earlier result"
    assert {path.name for path in tmp_path.iterdir()} == {"out.png", "p.png", "w.safetensors"}


def test_the_command_refuses_in_one_sentence(tmp_path, model, capsys):
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(model, "cifar10"))
    Image.fromarray(np.zeros((20, 32, 3), np.uint8)).save(tmp_path / "p.png")
    (tmp_path / "text.png").write_text("no picture")
    weights = [
        "--model",
        "cifar10",
        "--weights",
        str(tmp_path / "w.safetensors"),
        "--out",
        str(tmp_path / "out.png"),
    ]
    # A model without a dense path takes any size; the U-Net has its own.
    unet = [
        "--model",
        "cifar10_unet",
        "--weights",
        str(ROOT / "models" / "cifar10_unet.safetensors"),
    ]
    for words, message in [
        ([str(tmp_path / "p.png"), *unet], "is 32×20; the model's images are 32×32"),
        ([str(tmp_path / "text.png")], "cannot be read as a picture"),
        ([str(tmp_path / "absent.png")], "cannot be read as a picture"),
        (["p.png", "--model", "swiss_roll"], "'swiss_roll' is unknown"),
        (["p.png", "--samples", "0"], "--samples is 0; it must be a whole number from 1 to"),
        (["p.png", "--samples", "100000"], "--samples is 100000"),
        (["p.png", "--seed", "-1"], "--seed is -1; it must be a whole number from 0 to"),
        (["p.png", "--seed", "9" * 30], "--seed is 999"),
    ]:
        assert main(["inpaint", *weights, *words]) in (1, 2)
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_the_cat_of_the_report_is_what_the_command_makes_of_it(model, tmp_path):
    """README's picture and README's command are one thing: same hole, seeds and chain."""
    from skimage import data

    picture, weights = tmp_path / "cat.png", tmp_path / "w.safetensors"
    Image.fromarray(data.chelsea()[6:294:9, 96:384:9]).save(picture)
    weights.write_bytes(weights_bytes(model, "cifar10"))
    words = [
        str(picture),
        "--mask",
        "centre",
        "--model",
        "cifar10",
        "--weights",
        str(weights),
        "--steps",
        "8",
    ]
    assert main(["inpaint", *words, "--out", str(tmp_path / "out.png")]) == 0
    shown = photograph(model)
    assert list(shown) == [
        "the picture",
        "known",
        *(f"sample {k}" for k in range(1, 5)),
        "mean",
        "spread",
    ]
    for k in range(1, 5):
        sample = torch.from_numpy(np.array(Image.open(tmp_path / f"out-{k}.png"))).movedim(-1, 0)
        assert torch.equal(shown[f"sample {k}"], sample)


def test_no_sample_is_written_over_what_it_is_made_of(tmp_path, capsys):
    picture, mask = tmp_path / "filled-2.png", tmp_path / "again-1.png"
    for path in (picture, mask):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    before = {path: path.read_bytes() for path in (picture, mask)}
    for out in ("filled.png", "again.png"):
        words = [
            "inpaint",
            str(picture),
            "--mask",
            str(mask),
            "--out",
            str(tmp_path / out),
            "--steps",
            "2",
        ]
        assert main([*words, "--model", "cifar10", "--r", "constant"]) != 0
        assert "is the same file as" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
