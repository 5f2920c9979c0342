import math

import pytest
import torch

from nonequilibrium.data.images import ImageSet, Scale
from nonequilibrium.diffusion.evidence import Blur, Downsample, Mask
from replication.data.images import load_images
from replication.measure import baselines
from replication.restoration import holes, observations
from replication.restoration.inpaint import centre

PICTURES = load_images("photographs").test[::8]


def test_biharmonic_fills_a_ramp_and_keeps_what_is_known():
    ramp = (torch.arange(32) * 5 + 20).to(torch.uint8).expand(3, 32, 32)
    known = centre(32, 32)
    spoilt = torch.where(known, ramp, torch.zeros((), dtype=torch.uint8))
    filled = holes.biharmonic(spoilt, ~known)
    assert (filled.int() - ramp.int()).abs().max() <= 1
    noisy = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    assert torch.equal(holes.biharmonic(noisy, ~known)[:, known], noisy[:, known])


def test_denoisers_reduce_the_error():
    scale = Scale.of(PICTURES)
    generator = torch.Generator().manual_seed(0)
    clean = scale.dequantise(PICTURES, generator)
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=generator)
    before = (noisy - clean).square().mean()
    assert (observations.non_local_means(noisy, 0.5, 0.8) - clean).square().mean() < before


@pytest.mark.parametrize(
    "A", (torch.nn.Identity(), Blur(1.0), Downsample(2), Mask(torch.arange(4) < 2))
)
def test_the_wiener_filter_has_the_least_error_a_gaussian_allows(A):
    """Correlated between pixels and between channels; mean error by the exact posterior."""
    d, generator = 2 * 4 * 4, torch.Generator().manual_seed(0)
    root = torch.randn(d, d, generator=generator) / d**0.5
    train, x0 = (
        (1 + torch.randn(n, d, generator=generator) @ root.mT).reshape(n, 2, 4, 4)
        for n in (40_000, 4000)
    )
    y = A(x0) + 0.3 * torch.randn(A(x0).shape, generator=generator)
    y = y if not isinstance(A, Mask) else torch.where(A.known, y, 0.0)
    C, matrix = root @ root.mT, A(torch.eye(d).reshape(d, 2, 4, 4)).flatten(1).mT
    S = matrix @ C @ matrix.mT + 0.09 * torch.eye(len(matrix))
    least = (C - C @ matrix.mT @ torch.linalg.solve(S, matrix @ C)).trace() / d
    off = (observations.wiener(y, A, 0.09, train) - x0).square().mean()
    assert off == pytest.approx(float(least), rel=0.03)


def test_the_wiener_filter_is_exact_for_white_data():
    generator = torch.Generator().manual_seed(0)
    train, x = (torch.randn(n, 1, 8, 8, generator=generator) for n in (20000, 5))
    assert torch.allclose(
        observations.wiener(x, torch.nn.Identity(), 1.0, train), x / 2, atol=0.05
    ), "S = σ² = 1 halves every frequency"


def test_quality_of_known_errors():
    truth = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
    off = truth.clone()
    off[1] += 10
    measures = observations.scores(truth, off, None)
    assert measures["PSNR"][1] == pytest.approx(28.13, abs=0.01), "20 log10(255/10)"
    assert measures["SSIM"][0] == pytest.approx(1) and measures["SSIM"][1] < 1
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[:8] = True
    off[1, :, 8:] = 0
    assert observations.scores(truth, off, ~hole)["PSNR"][1] == pytest.approx(28.13, abs=0.01), (
        "the hole alone counts"
    )


def test_denoised_pixels_takes_off_the_half_level_of_the_noise():
    scale = Scale(100.5, 50.0)
    x = (torch.tensor([[0.0, 7.0, 255.0]]) + 0.5 - scale.mean) / scale.sigma
    assert observations.denoised_pixels(scale, x).tolist() == [[0, 7, 255]]


# ---------------------------------------------------------------- histograms


def _law(n, seed, channels=1, step=1):
    """Images whose every pixel is its left neighbour plus 0 or ``step``: one bit a pixel given the
    neighbour, more without.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(0, 2, (n, channels, 6, 6), generator=generator)
    return (100 + step * steps.cumsum(-1)).to(torch.uint8)


def test_a_histogram_for_each_pixel_reaches_the_entropy():
    found = baselines.pixel_histogram(_law(4000, 0), _law(300, 1), _law(300, 2))
    # Column j is 100 + Binomial(j, 1/2).
    laws = [torch.tensor([math.comb(j, k) / 2**j for k in range(j + 1)]) for j in range(1, 7)]
    entropy = sum(float(-(p * p.log2()).sum()) for p in laws) / 6
    assert found.shape == (300,) and found.mean().item() == pytest.approx(entropy, abs=0.02)


@pytest.mark.parametrize("channels, step, levels", [(1, 1, 256), (3, 4, 64)])
def test_a_histogram_given_neighbours_reaches_the_conditional_entropy(
    channels, step, levels, monkeypatch
):
    sets = [_law(n, seed, channels, step) for n, seed in ((3000, 0), (300, 1), (300, 2))]
    monkeypatch.setattr(baselines, "CONTEXTS", [n for n in baselines.CONTEXTS if n <= levels])
    found = baselines.two_neighbours(*sets)
    assert found.shape == (300,) and found.mean().item() == pytest.approx(1, abs=0.02)
    monkeypatch.setattr(baselines, "CONTEXTS", (1, 4))
    assert baselines.two_neighbours(*sets).mean() > 1.2, "rounded neighbours know less"


def test_histograms_are_laws(monkeypatch):
    """Of images of two pixels all 256² together have probability one, those that were never seen
    included.
    """
    train, aside = _law(60, 0)[:, :, :1, :2], _law(20, 1)[:, :, :1, :2]
    every = (
        torch.cartesian_prod(torch.arange(256), torch.arange(256))
        .to(torch.uint8)
        .reshape(-1, 1, 1, 2)
    )
    monkeypatch.setattr(baselines, "CONTEXTS", (1, 4, 16, 64))
    for model in (baselines.pixel_histogram, baselines.two_neighbours):
        assert torch.exp2(-2 * model(train, aside, every).double()).sum().item() == pytest.approx(
            1, rel=1e-4
        )


def test_the_smoothing_is_chosen_on_images_set_aside(monkeypatch):
    """Images set aside that are unlike training want much smoothing; what the test images want does
    not matter.
    """
    train = _law(500, 0)
    unlike = torch.randint(
        0, 256, (50, 1, 6, 6), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    monkeypatch.setattr(baselines, "CONTEXTS", (1, 4, 16))
    for model in (baselines.pixel_histogram, baselines.two_neighbours):
        assert model(train, unlike, train).mean() > model(train, _law(50, 2), train).mean() + 0.01


def test_other_test_images_change_no_cost(monkeypatch):
    """Neither counts nor smoothing look at them."""
    monkeypatch.setattr(baselines, "CONTEXTS", (1, 16))
    train, test = _law(700, 0), _law(20, 1)
    rough = torch.randint(0, 256, (300, 1, 6, 6), generator=torch.Generator().manual_seed(2))
    alone = baselines.histograms(ImageSet(train, test, ""), 200)
    beside = ImageSet(train, torch.cat([test, rough.to(torch.uint8)]), "")
    for name, costs in baselines.histograms(beside, 200).items():
        assert torch.equal(costs[:20], alone[name])


def test_all_histograms_of_a_data_set():
    found = baselines.histograms(load_images("digits"), 200)
    assert len(found) == 2 and all(
        costs.shape == (297,) and torch.isfinite(costs).all() for costs in found.values()
    )
