"""The noise of one grey level (footnote 3): recovered from x, it must be uniform on [0, 1) and
independent of the pixel.
"""

import pytest
import torch

from nonequilibrium.data.images import Scale


@pytest.mark.parametrize("shape", [(400, 1, 12, 12), (150, 3, 12, 12)])
def test_the_noise_is_uniform_on_one_grey_level(shape):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    scale = Scale.of(pixels)
    u = scale.dequantise(pixels, generator).double() * scale.sigma + scale.mean - pixels
    rounding = 1e-4  # of float32 at 255
    assert -rounding <= u.min() < 0.001 and 0.999 < u.max() <= 1 + rounding
    n = u.numel()
    assert u.mean().item() == pytest.approx(1 / 2, abs=5 * (1 / 12 / n) ** 0.5)
    assert u.var().item() == pytest.approx(
        1 / 12, abs=5 * (1 / 180 / n) ** 0.5
    )  # Var((u − 1/2)²) = 1/180
    assert torch.histc(u, 10, 0, 1).sub(n / 10).abs().max() < 5 * (0.09 * n) ** 0.5
    pair = torch.stack([u.flatten(), pixels.double().flatten()])
    assert torch.corrcoef(pair)[0, 1].abs() < 5 / n**0.5, "whatever the pixel"
    assert torch.corrcoef(u.flatten(1))[0, 1:].abs().max() < 0.5, "every image has noise of its own"
    again = scale.dequantise(pixels, generator).double() * scale.sigma + scale.mean - pixels
    assert not torch.allclose(u, again, atol=0.1), "and afresh at each call"
