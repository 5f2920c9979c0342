import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

from nonequilibrium.bound.parzen import GRID, log_density, parzen


def test_against_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    samples, x = torch.rand(300, 7, generator=generator), torch.rand(50, 7, generator=generator)
    for sigma in (0.1, 0.4):
        expected = KernelDensity(bandwidth=sigma).fit(samples.numpy()).score_samples(x.numpy())
        assert log_density(x, samples, sigma, block=17).numpy() == pytest.approx(expected, abs=1e-4)


def test_the_estimate_picks_sigma_on_validation_and_reports_the_test_set():
    rng = np.random.default_rng(0)
    data = torch.from_numpy(rng.normal(0.5, 0.25, (900, 3))).float()
    samples, validation, test = data.split(300)
    result = parzen(samples, validation, test)
    best = max(GRID, key=lambda s: float(log_density(validation, samples, s).mean()))
    assert result["sigma"] == best
    squares = ((test[:, None] - samples) ** 2).sum(-1).double().numpy()
    values = logsumexp(-squares / (2 * best**2), axis=1) - math.log(300) - 1.5 * math.log(2 * math.pi * best**2)
    assert result["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert result["se"] == pytest.approx(values.std(ddof=1) / math.sqrt(300), rel=1e-3)


def test_the_grid_is_the_protocols():
    assert len(GRID) == 10 and GRID[0] == pytest.approx(0.1) and GRID[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [torch.rand(5), torch.rand(5, 4), torch.full((5, 3), math.nan)])
def test_bad_images_are_named(bad):
    good = torch.rand(5, 3)
    with pytest.raises(ValueError, match="test has shape"):
        parzen(good, good, bad)
