"""Pictures of any size: which they are, what is held out, and what is refused in one sentence."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from nonequilibrium.data.images import Pictures
from nonequilibrium.model.textures import TextureModel
from replication.data import textures
from replication.data.images import DataError
from replication.data.pictures import read_picture
from replication.data.sources import DATA_SETS
from replication.data.textures import APART, HELD_OUT, load_pictures, regions
from replication.settings.settings import quick


def picture(path, height=40, width=50, mode="L", seed=0):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    array = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    Image.fromarray(array).save(path)
    return array


def test_shipped_textures_and_what_they_are_called(tmp_path):
    found = load_pictures("textures", 1, 64, tmp_path)
    assert found.source == "textures" and "brick, grass and gravel" in found.title
    assert [p.shape for p in found.test] == [(1, *HELD_OUT)] * 3
    assert all(p.dtype == torch.uint8 and min(p.shape[1:]) >= 64 for p in found.train)
    assert load_pictures("bark", 1, 64, tmp_path).source == "textures", (
        "nothing better is in an empty folder"
    )
    assert load_pictures("textures", 3, 64, tmp_path).test[0].shape[0] == 3
    with pytest.raises(DataError, match="photographs is not in .*nonequilibrium data bark"):
        load_pictures("photographs", 1, 64, tmp_path)


def test_nothing_trained_on_is_near_what_is_held_out_even_around_the_edges():
    """The photographs are seamless: their right edge goes on at their left."""
    place = torch.arange(1024 * 1024).reshape(1, 1024, 1024)
    train, (held,) = regions([place], 64, middle=True)
    assert held.shape == (1, *HELD_OUT)
    rows, columns = held[0, :, 0] // 1024, held[0, 0] % 1024

    def distance(lines, among):
        apart = (lines[:, None] - among).abs()
        return torch.minimum(apart, 1024 - apart).amin(1)

    for piece in train:
        down = distance(piece[0, :, 0] // 1024, rows)
        across = distance(piece[0, 0] % 1024, columns)
        assert torch.maximum(down[:, None], across[None]).min() > APART
    used = torch.cat([piece.flatten() for piece in train])
    assert (
        len(used)
        == len(used.unique())
        == 1024**2 - (HELD_OUT[0] + 2 * APART) * (HELD_OUT[1] + 2 * APART)
    )


def test_a_region_in_the_corner_leaves_no_piece_behind_it():
    train, (held,) = regions([torch.zeros(1, 100, 90)], 1, middle=False)
    assert [tuple(p.shape[1:]) for p in train] == [(18, 90), (82, 2)]
    assert held.shape == (1, 50, 56)


def test_the_photographs_by_their_sums(tmp_path, monkeypatch):
    wanted = DATA_SETS["bark"]
    folder = tmp_path / wanted.folder
    folder.mkdir()
    for k, name in enumerate(wanted.files):
        picture(folder / name, 700, 800, "RGB", k)
    with pytest.raises(DataError, match="is damaged"):
        load_pictures("bark", 1, 64, tmp_path)
    monkeypatch.setattr(textures, "present", lambda *_: True)
    found = load_pictures("bark", 3, 64, tmp_path)
    assert found.source == "photographs" and [p.shape for p in found.test] == [(3, *HELD_OUT)] * 2
    with pytest.raises(DataError, match="patch = 500 leaves no region of two photographs"):
        load_pictures("bark", 1, 500, tmp_path)


def test_own_pictures_one_few_and_many(tmp_path, capsys):
    array = picture(tmp_path / "one.png", 200, 240)
    one = load_pictures(str(tmp_path / "one.png"), 1, 32)
    assert one.source == "own" and one.title == "one.png"
    assert torch.equal(one.test[0][0], torch.from_numpy(array[100:, 90:].copy()))
    small = load_pictures(str(tmp_path / "one.png"), 1, 128)
    assert small.test == [] and small.train[0].shape == (1, 200, 240), (
        "too small to hold anything out"
    )
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a picture")
    for k in range(1, 11):
        picture(folder / f"{k}.png", 40 + k, 50)
    (folder / "below").mkdir()
    for name in ("a.jfif", "b.jfif", "c.jp2", ".hidden.png", "below/d.png", "below/e"):
        (folder / name).write_bytes(b"")
    many = load_pictures(str(folder), 3, 32)
    said = "many: 10 pictures are read; skipped, in subfolders too: 6 other files\n"
    assert capsys.readouterr().err.endswith(said)
    assert [p.shape[1] - 40 for p in many.test] == [4, 8] and len(many.train) == 8, (
        "10 comes after 9"
    )


def test_reading_every_kind_upright(tmp_path):
    array = picture(tmp_path / "a.png", mode="RGB")
    assert torch.equal(
        read_picture(tmp_path / "a.png", (3,))[0], torch.from_numpy(array).movedim(-1, 0)
    )
    grey = read_picture(tmp_path / "a.png", (1,))[0][0].double()
    exact = torch.from_numpy(array).double() @ torch.tensor(
        [0.299, 0.587, 0.114], dtype=torch.float64
    )
    assert (grey - exact).abs().max() <= 1
    picture(tmp_path / "b.jpg", 40, 50)
    turned = Image.open(tmp_path / "b.jpg")
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "b.jpg", exif=exif)
    assert read_picture(tmp_path / "b.jpg", (1,))[0].shape == (1, 50, 40)


def test_what_cannot_be_trained_on_gets_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.jfif").touch()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    (tmp_path / "text.png").write_text("hello")
    picture(tmp_path / "seen_through.png", mode="RGBA")
    frames = [Image.new("L", (40, 40), k) for k in range(3)]
    frames[0].save(tmp_path / "film.tif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.random.default_rng(0).random((40, 40), dtype=np.float32)).save(
        tmp_path / "floats.tif"
    )
    picture(tmp_path / "small.png", 20, 300)
    for name, said in {
        "nowhere": "must be bark, a picture or a folder",
        "empty": r"holds no pictures, named \*.png, .* \(skipped, .*: 1 other files\)",
        "broken.png": "cannot be read as a picture",
        "text.png": "damaged or of no kind that is read",
        "seen_through.png": "not opaque",
        "film.tif": "more than one frame",
        "floats.tif": "unusual kind .*floats",
        "small.png": "is 300×20; training takes patches of 32×32",
    }.items():
        with pytest.raises(DataError, match=said) as raised:
            load_pictures(str(tmp_path / name), 1, 32)
        assert "\n" not in str(raised.value)


def test_a_picture_too_small_to_share_is_trained_on_whole_and_watched_by_too(tmp_path):
    picture(tmp_path / "small.png", 40, 44)
    params = quick("bark", {"data": str(tmp_path / "small.png"), "patch": 32, "batch": 2})
    model = TextureModel(load_pictures(params.data, params.channels, params.patch), **vars(params))
    assert [p.shape for p in model.pictures] == [(1, 40, 44)]
    assert model.validation.shape == (300, 1, 32, 32)
    large = picture(tmp_path / "large.png", 100, 44)
    params = dataclasses.replace(params, data=str(tmp_path / "large.png"))
    shared = TextureModel(Pictures([torch.from_numpy(large)[None]], [], "large"), **vars(params))
    assert [p.shape for p in shared.pictures] == [(1, 68, 44)]
    rows = {
        tuple(row.tolist()) for row in torch.from_numpy(large[68:]).unfold(1, 32, 1).flatten(0, 1)
    }
    assert all(tuple(row.tolist()) in rows for row in shared.validation[:20].flatten(0, 2)), (
        "the foot, and no more"
    )


def test_a_picture_is_read_alike_to_train_on_and_to_fill_in(tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (24, 30), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "white_is_zero.tif", tiffinfo={262: 0})
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "colour.webp", lossless=True)
    Image.fromarray(grey > 127).save(tmp_path / "two.png")
    for name in ("white_is_zero.tif", "colour.webp", "two.png"):
        for channels in (1, 3):
            wanted, opaque = read_picture(tmp_path / name, (channels, 24, 30))
            assert opaque.all() and torch.equal(
                read_picture(tmp_path / name, (channels,))[0], wanted
            ), name


def test_a_folder_or_file_of_ones_own_wins_over_a_built_in_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "own.png", 100, 100)
    (tmp_path / "own.png").rename(tmp_path / "textures")
    assert load_pictures("textures", 1, 32).source == "own"
    assert load_pictures("bark", 1, 32, tmp_path / "data").source == "textures"
