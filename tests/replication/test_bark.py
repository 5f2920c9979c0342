"""How bark is measured: K against sampled_bound, its errors, which pictures it is said of, and the
hole of figure 5.
"""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from nonequilibrium.bound.bound import bits, sampled_bound
from nonequilibrium.model.textures import TextureModel
from replication.data.images import DataError
from replication.data.textures import load_pictures
from replication.measure import bark
from replication.measure.measure import measure
from replication.restoration import holes
from replication.settings import settings
from replication.settings.registry import EXPERIMENTS

TINY = {
    "n_steps": 12,
    "conv_layers": 2,
    "conv_channels": 4,
    "pixel_units": 8,
    "bumps": 4,
    "patch": 32,
}


@pytest.fixture(scope="module")
def model():
    return TextureModel(
        load_pictures("textures", 1, 32), **vars(settings.quick("bark", TINY))
    ).eval()


@pytest.fixture(scope="module")
def its():
    return settings.evaluation("bark", "quick", {"draws": 24, "thin_steps": 4, "hole": 30})


@pytest.fixture(scope="module")
def found(model, its):
    return measure("bark", model, its)


def test_K_is_that_of_the_regions_whole(model, its, found):
    """Squares only share out what the whole region has: another estimator of the regions gives the
    same within its error.
    """
    x0 = torch.cat(
        [piece.x0 for piece in bark._pieces(model, load_pictures("textures", 1, 32).test, its)]
    )
    kernel = model.kernel()
    draws = torch.Generator().manual_seed(0)
    bound = sampled_bound(
        kernel, model.reverse(kernel), x0, draws, 12, model.proposal(), replicates=4
    )
    pixels, n = 256 * 320, found.numbers
    error = (n["K_mc_se"] ** 2 + (bits(bound.mc_se) / pixels) ** 2) ** 0.5
    assert abs(n["K"] - bits(bound.K) / pixels) < 4 * error
    assert error < 0.2 * abs(n["K"]), "or the line above says little"


def test_the_parts_of_a_piece_are_its_squares(model, its):
    piece = bark._pieces(model, load_pictures("textures", 1, 32).test, its)[0]
    squares = piece.blocks(piece.x0)
    assert squares.shape == (20, 1, 64, 64)
    assert torch.equal(squares[6], piece.x0[0, :, 64:128, 64:128]), "the second row's second"
    many = dataclasses.replace(its, n_heldout=20)
    pictures = [torch.zeros(1, 70, 85, dtype=torch.uint8)] * 12
    assert all(
        p.side is None and p.x0.shape == (1, 1, 68, 84) for p in bark._pieces(model, pictures, many)
    )


def test_the_contract_says_which_pictures_and_gives_a_stand_in_no_number_of_the_paper_s(
    found, model
):
    n = found.numbers
    assert (
        n["source"] == "textures" and "brick, grass and gravel" in n["title"] and n["paper"] == {}
    )
    assert EXPERIMENTS["bark"].paper["K"] == -0.55, "which stands in the register"
    assert (n["n_heldout"], n["n_units"], n["error_unit"]) == (2, 40, "squares of 64×64 pixels")
    assert found.arrays["K_per_example"].shape == (40,)
    assert np.isclose(float(found.arrays["K_per_example"].mean()), n["K"], rtol=1e-5)
    assert np.isclose(
        found.tables["K_by_time_step"]["K"].sum(), _sum_of_kl(found, model), rtol=0.05
    )
    assert 0 < n["K_mc_se"] < 1 and 0 < n["K_se"]


def _sum_of_kl(found, model):
    """Σ KL_t in bits per pixel from K and its exact terms."""
    from nonequilibrium.bound.bound import entropy_terms

    pieces = bark._pieces(
        model, load_pictures("textures", 1, 32).test, settings.evaluation("bark", "quick")
    )
    rest = torch.cat([entropy_terms(model.kernel(), piece.x0) for piece in pieces]).mean() / (
        256 * 320
    )
    return bits(float(rest)) - found.numbers["K"]


def test_the_same_twice(model, its):
    one, other = (
        measure("bark", model, dataclasses.replace(its, draws=2, n_heldout=1)) for _ in range(2)
    )
    assert one.numbers == other.numbers
    assert all(torch.equal(one.arrays[name], value) for name, value in other.arrays.items())


def test_weights_are_measured_on_what_they_were_trained_on(model, tmp_path):
    model = TextureModel(
        load_pictures("textures", 1, 32), **(vars(model.params) | {"data": "bark"})
    )
    assert bark.trained_on(model).source == "textures"
    model.constants += 3.0
    with pytest.raises(
        DataError,
        match="that the weights were trained on are not here .*brick, grass and gravel are others",
    ):
        bark.trained_on(model)
    gone = TextureModel(**(vars(model.params) | {"data": str(tmp_path / "gone")}))
    with pytest.raises(DataError, match="must be bark, a picture"):
        bark.trained_on(gone)


def test_figure_5_keeps_what_is_known_and_fills_the_rest(found):
    truth, noisy = found.arrays["figure_5_0"]
    assert truth.shape == (1, 256, 320)
    hole = bark.hole_in(truth, 30)
    assert hole.sum() == 900 and hole[113:143, 145:175].all()
    assert (
        torch.equal(noisy[:, ~hole], truth[:, ~hole])
        and (noisy != truth)[:, hole].float().mean() > 0.9
    )
    for way in ("constant", "through", "others"):
        for picture in found.arrays[f"figure_5_0_{way}"]:
            assert torch.equal(picture[:, ~hole], truth[:, ~hole])
            assert not torch.equal(picture, noisy)
    table = found.tables["figure_5"].set_index("method")
    assert {"one sample, constant r", "mean of 2 samples, through the model", "biharmonic"} <= set(
        table.index
    )
    single, mean = (
        table["PSNR"]["one sample, constant r"],
        table["PSNR"]["mean of 2 samples, constant r"],
    )
    assert mean > single, "the mean of samples is nearer in the mean square"
    first = holes.quality(truth, found.arrays["figure_5_0_others"][0], hole)
    assert table["PSNR"]["biharmonic"] == pytest.approx(first["PSNR"])


def test_texture_distance_tells_textures_apart_and_is_zero_on_itself():
    brick, grass, gravel = load_pictures("textures", 1, 32).test
    one, other = grass[:, :100, :100], grass[:, 120:220, 120:220]
    assert holes.texture_distance(one, one) == {"spectrum": 0.0, "gradients": 0.0}
    same, different = (
        holes.texture_distance(one, other),
        holes.texture_distance(one, brick[:, :100, :100]),
    )
    assert all(same[key] < different[key] for key in same)
    flat = torch.full((1, 100, 100), 90, dtype=torch.uint8)
    assert holes.texture_distance(one, flat)["spectrum"] > 20


def test_the_spectrum_of_a_wave_and_of_white_noise():
    x = torch.arange(128).float()
    wave = (128 + 100 * torch.sin(2 * torch.pi * x * 0.25)).expand(1, 128, 128)
    power = holes.spectrum(wave)
    assert int(power.argmax()) == int(0.25 * 2 * len(power)) and len(power) == 32
    noise = 10 * torch.randn(1, 128, 128, generator=torch.Generator().manual_seed(0))
    assert (holes.spectrum(noise) - 20).abs().max() < 2.5, (
        "flat, at ten times the logarithm of the variance"
    )


def test_opencv_fills_and_is_missed_in_a_sentence(monkeypatch):
    picture = load_pictures("textures", 1, 32).test[1][:, :60, :60]
    hole = bark.hole_in(picture, 20)
    monkeypatch.setitem(sys.modules, "cv2", None)
    filled, left_out = holes.others(picture, hole)
    assert list(filled) == ["biharmonic"] and "not installed" in left_out
    monkeypatch.undo()
    pytest.importorskip("cv2")
    filled, left_out = holes.others(picture, hole)
    assert len(filled) == 3 and left_out == ""
    for each in filled.values():
        assert torch.equal(each[:, ~hole], picture[:, ~hole]) and each.dtype == torch.uint8
    changed = torch.where(hole, 255 - picture, picture)
    assert all(torch.equal(a, holes.others(changed, hole)[0][name]) for name, a in filled.items())
