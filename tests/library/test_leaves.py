"""Dead leaves: the generator against its own law."""

import numpy as np
import pytest
import torch
from scipy import stats

from nonequilibrium.data.leaves import (
    MEAN,
    VARIANCE,
    dead_leaves,
    leaves_images,
    leaves_pictures,
    radii,
)
from nonequilibrium.errors import ParameterError
from nonequilibrium.model.textures import LeavesModel
from nonequilibrium.network.unet import Attention, UNet
from replication.settings.settings import load, quick


def images(*law):
    return leaves_images(*law)[0]


def test_each_pixel_has_the_first_of_all_leaves_that_covers_its_centre():
    greys, top, leaves = dead_leaves(40, 1.0, 30.0, np.random.default_rng(3))
    row, column = (np.mgrid[:40, :40] + 0.5).reshape(2, -1, 1)
    inside = (row - leaves.y) ** 2 + (column - leaves.x) ** 2 <= leaves.radius**2
    assert inside.any(1).all(), "the ground is covered"
    assert (inside.argmax(1).reshape(40, 40) == top).all()
    assert (greys == leaves.grey[top].astype(np.float32)).all()


def test_radii_have_the_density_r_to_the_minus_three():
    r = radii(np.random.default_rng(0).random(100_000), 2.0, 64.0)
    assert r.min() >= 2 and r.max() <= 64
    for a, b in [(2, 4), (4, 8), (8, 16), (16, 32)]:
        share = (a**-2 - b**-2) / (2.0**-2 - 64.0**-2)
        error = (share * (1 - share) / len(r)) ** 0.5
        assert abs(((r >= a) & (r < b)).mean() - share) < 4 * error


def test_leaves_that_are_seen_are_larger_than_leaves_that_fell():
    """A leaf that is near enough to be seen is counted by its size: radii of those have a density ∝
    r^−3 (area of their reach).
    """
    size, smallest, largest = 64, 2.0, 32.0
    drawn = [dead_leaves(size, smallest, largest, np.random.default_rng(k))[1:] for k in range(40)]
    fell = np.concatenate([leaves.radius for _, leaves in drawn])
    seen = np.concatenate([leaves.radius[np.unique(top)] for top, leaves in drawn])
    grid = np.linspace(smallest, largest, 20_000)
    weight = grid**-3 * (size**2 + 4 * size * grid + np.pi * grid**2)
    wanted = (grid * weight).sum() / weight.sum()
    # Images, not leaves, are independent: the last leaf that is needed decides how many fall.
    means = np.array([leaves.radius.mean() for _, leaves in drawn])
    assert abs(fell.mean() - wanted) < 4 * means.std() / len(means) ** 0.5 + 0.05
    assert seen.mean() > 1.05 * fell.mean()


def test_leaves_reach_as_far_beyond_each_side_of_an_image_as_they_are_large():
    size, largest = 32, 16.0
    leaves = [dead_leaves(size, 12.0, largest, np.random.default_rng(k))[2] for k in range(300)]
    radius, x, y, _ = (np.concatenate(part) for part in zip(*leaves, strict=True))
    for across, along in ((x, y), (y, x)):
        beside = (along > 0) & (along < size)
        for depth in (-across, across - size):
            out = beside & (depth > 0)
            assert stats.kstest(depth[out] / radius[out], "uniform").pvalue > 1e-4
            assert depth[out].max() > 0.98 * largest


def test_halving_an_image_keeps_the_law_of_pixel_differences():
    """Between the cut-offs: differences at distance d of images, against those at d/2 of images at
    half the resolution.
    """
    drawn = images(60, 128, 0.5, 128.0, 5)
    half = drawn[..., ::2, ::2]
    whole, halved = (
        (x[..., d:] - x[..., :-d]).abs().mean((1, 2, 3)) for x, d in ((drawn, 16), (half, 8))
    )
    assert torch.allclose(whole, halved, atol=0.03)
    # And scale invariance itself: as much is covered by leaves of each octave, so distances 4 and 8
    # of a scaled law agree.
    small, large = images(80, 64, 1.0, 64.0, 6), images(80, 128, 2.0, 128.0, 7)
    a = (small[..., 4:] - small[..., :-4]).abs().mean((1, 2, 3))
    b = (large[..., 8:] - large[..., :-8]).abs().mean((1, 2, 3))
    assert abs(a.mean() - b.mean()) < 4 * (a.var() / 80 + b.var() / 80).sqrt()


def test_the_law_is_the_same_at_every_place():
    drawn = images(300, 32, 1.0, 32.0, 8)
    for x in (drawn[..., 0, 0], drawn[..., 16, 16], drawn[..., 31, 0]):
        values = x.flatten()
        assert abs(values.mean() - MEAN) < 4 * (VARIANCE / 300) ** 0.5
        assert abs(values.var() - VARIANCE) < 0.02
    across = (drawn[..., :, 1:] != drawn[..., :, :-1]).float().mean((0, 1, 2))
    assert across.std() < 4 * (0.25 / (300 * 32)) ** 0.5 * 2, (
        "borders are as frequent in the middle as at the rim"
    )


def test_the_same_seed_draws_the_same_images_whatever_their_number():
    assert torch.equal(images(3, 32, 1.0, 16.0, 1)[:2], images(2, 32, 1.0, 16.0, 1))
    assert not torch.equal(images(1, 32, 1.0, 16.0, 1), images(1, 32, 1.0, 16.0, 2))


def test_no_image_is_for_training_and_for_tests():
    data = leaves_pictures(quick("dead_leaves", {"n_train": 4, "n_test": 4}))
    assert len(torch.stack(data.train + data.test).unique(dim=0)) == 8


def test_x0_has_variance_one_and_the_noise_that_is_stated():
    params = quick("dead_leaves")
    model = LeavesModel(leaves_pictures(params), **vars(params))
    flat = torch.full((4, 1, 64, 64), 0.3)
    x0 = model.x0(flat, torch.Generator().manual_seed(0))
    assert float(x0.std()) == pytest.approx(params.noise / model.scale.sigma, rel=0.03)
    many = model.x0(images(400, 32, 1.0, 32.0, 9), torch.Generator().manual_seed(0))
    assert float(many[..., ::16, ::16].var()) == pytest.approx(1, abs=0.12)
    batch = model.drawn(torch.Generator().manual_seed(0))
    assert batch.shape == (params.batch, 1, params.patch, params.patch)


def test_settings_that_do_not_go_together_are_refused():
    for wrong, words in [
        ({"smallest": 40.0}, "must be less than largest"),
        ({"patch": 128}, "larger than an image"),
        ({"patch": 30}, "cannot be halved"),
        ({"dense_layers": 1}, "need dense_layers = 0"),
        ({"channels": 2}, "1 .grey. or 3"),
    ]:
        with pytest.raises(ParameterError, match=words):
            quick("dead_leaves", wrong)


def test_a_u_net_of_leaves_sees_every_place_of_an_image_of_any_size_alike():
    params = quick("dead_leaves_unet", {"channels": 8, "levels": 2, "train_steps": 1})
    model = LeavesModel(**vars(params))
    assert isinstance(model.network, UNet) and not any(
        isinstance(m, Attention) for m in model.network.modules()
    )
    with torch.no_grad():
        for p in model.network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    kernel, moved = model.kernel(), 8  # by a multiple of what is pooled
    wide = torch.randn(1, 1, 48, 80, generator=torch.Generator().manual_seed(0))
    wide = torch.cat(
        [wide] * 2, -1
    )  # periodic, so that group normalisation sees the same, but for what is near the border
    with torch.no_grad():  # in float32, whatever the machine
        z, shifted = (model.network.z(kernel, x, 3) for x in (wide, wide.roll(moved, -1)))
    assert z.shape == (1, 2, 48, 160) and z.std() > 0.1
    inner = slice(40, -40)
    assert torch.allclose(shifted.roll(-moved, -1)[..., inner], z[..., inner], atol=5e-3)


def test_leaves_of_both_networks_are_the_same_ones():
    shared = {"n_train": 2, "n_test": 2}
    paper, unet = (
        leaves_pictures(quick(name, shared)) for name in ("dead_leaves", "dead_leaves_unet")
    )
    assert all(
        torch.equal(a, b)
        for a, b in zip(paper.train + paper.test, unet.train + unet.test, strict=True)
    )
    full = [load(name, {}) for name in ("dead_leaves", "dead_leaves_unet")]
    law = ("noise", "smallest", "largest", "size", "n_train", "n_test", "beta_1", "n_steps")
    assert all(getattr(full[0], name) == getattr(full[1], name) for name in law), (
        "one data set, compared in one table"
    )
