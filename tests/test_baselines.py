import pytest
import torch

from nonequilibrium.data.images import Scale, load_images
from nonequilibrium.measure import baselines
from nonequilibrium.measure.inpaint import centre

PICTURES = load_images("photographs").test[::8]


def test_biharmonic_fills_a_ramp_and_keeps_what_is_known():
    ramp = (torch.arange(32) * 5 + 20).to(torch.uint8).expand(1, 3, 32, 32)
    known = centre(32, 32)
    spoilt = torch.where(known, ramp, torch.zeros((), dtype=torch.uint8))
    filled = baselines.biharmonic(spoilt, known)
    assert (filled.int() - ramp.int()).abs().max() <= 1
    noisy = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(baselines.biharmonic(noisy, known)[:, :, known], noisy[:, :, known])


def test_denoisers_reduce_the_error():
    scale = Scale.of(PICTURES)
    generator = torch.Generator().manual_seed(0)
    train = scale.dequantise(load_images("photographs").train, generator)
    clean = scale.dequantise(PICTURES, generator)
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=generator)
    before = (noisy - clean).square().mean()
    assert (baselines.wiener(noisy, 0.5, train) - clean).square().mean() < 0.9 * before
    assert (baselines.non_local_means(noisy, 0.5, 0.8) - clean).square().mean() < before


def test_the_wiener_filter_is_exact_for_white_data():
    generator = torch.Generator().manual_seed(0)
    train, x = (torch.randn(n, 1, 8, 8, generator=generator) for n in (20000, 5))
    assert torch.allclose(baselines.wiener(x, 1.0, train), x / 2, atol=0.05), "S = σ² = 1 halves every frequency"


def test_quality_of_known_errors():
    truth = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
    off = truth.clone()
    off[1] += 10
    measures = baselines.quality(truth, off)
    assert measures["PSNR"][1] == pytest.approx(28.13, abs=0.01), "20 log10(255/10)"
    assert measures["SSIM"][0] == pytest.approx(1) and measures["SSIM"][1] < 1
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[:8] = True
    off[1, :, 8:] = 0
    assert baselines.quality(truth, off, hole)["PSNR"][1] == pytest.approx(28.13, abs=0.01), "the hole alone counts"


def test_the_mean_of_samples_is_nearer_than_one():
    truth = PICTURES
    noise = torch.randint(-20, 21, (4, *truth.shape), generator=torch.Generator().manual_seed(0))
    samples = (truth.int() + noise).clamp(0, 255).to(torch.uint8)
    rows = baselines.compare(truth, samples, {"itself": truth})
    assert [row["method"] for row in rows] == ["one posterior sample", "mean of 4 samples", "itself"]
    assert rows[0]["PSNR"] + 4 < rows[1]["PSNR"] < rows[2]["PSNR"] and rows[2]["SSIM"] == pytest.approx(1)


def test_denoised_pixels_takes_off_the_half_level_of_the_noise():
    scale = Scale(100.5, 50.0)
    x = (torch.tensor([[0.0, 7.0, 255.0]]) + 0.5 - scale.mean) / scale.sigma
    assert baselines.denoised_pixels(scale, x).tolist() == [[0, 7, 255]]
