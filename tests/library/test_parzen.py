import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

from nonequilibrium.bound.parzen import GRID, in_unit_interval, log_density, parzen
from nonequilibrium.errors import BoundError


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
    values = (
        logsumexp(-squares / (2 * best**2), axis=1)
        - math.log(300)
        - 1.5 * math.log(2 * math.pi * best**2)
    )
    assert result["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert result["se"] == pytest.approx(values.std(ddof=1) / math.sqrt(300), rel=1e-3)


def test_the_grid_is_the_protocols():
    assert len(GRID) == 10 and GRID[0] == pytest.approx(0.1) and GRID[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [torch.rand(5), torch.rand(5, 4), torch.full((5, 3), math.nan)])
def test_bad_images_are_named(bad):
    good = torch.rand(5, 3)
    with pytest.raises(ValueError, match="test has shape"):
        parzen(good, good, bad)


def test_sigma_is_chosen_on_validation_where_test_would_choose_another():
    """Validation images near the samples want a narrow window, test images far from them a wide
    one.
    """
    rng = np.random.default_rng(0)
    samples = torch.from_numpy(rng.uniform(0, 1, (200, 4))).float()
    validation = samples + 0.02 * torch.from_numpy(rng.normal(0, 1, (200, 4))).float()
    test = torch.from_numpy(rng.uniform(1.5, 2.0, (200, 4))).float()
    result = parzen(samples, validation, test)
    wanted = {
        name: max(GRID, key=lambda s: float(log_density(x, samples, s).mean()))
        for name, x in {"validation": validation, "test": test}.items()
    }
    assert wanted["validation"] == GRID[0] and wanted["test"] > 0.5
    assert result["sigma"] == wanted["validation"]
    assert result["mean"] == pytest.approx(float(log_density(test, samples, GRID[0]).mean()))


def test_white_is_one():
    white = torch.full((2, 1, 3, 3), 255, dtype=torch.uint8)
    assert (in_unit_interval(white, 256) == 1).all() and (
        in_unit_interval(0 * white, 256) == 0
    ).all()
    assert (in_unit_interval(torch.full((2, 1, 3, 3), 16, dtype=torch.uint8), 17) == 1).all()


def test_the_error_in_blocks_sees_the_order_of_the_file():
    samples = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    test = torch.rand(1000, 3, generator=torch.Generator().manual_seed(1))
    test[500:] += 0.5  # the second half is harder
    result = parzen(samples, samples, test)
    assert result["se_blocks"] > 2 * result["se"]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(samples=torch.zeros(0, 3)), "samples has shape"),
        (dict(validation=torch.zeros(0, 3)), "validation has shape"),
        (dict(test=torch.zeros(1, 3)), "at least 2"),
        (dict(samples=torch.zeros(5, 3, dtype=torch.uint8)), "dtype torch.uint8"),
    ],
)
def test_what_is_no_window_is_one_sentence(changes, message):
    good = torch.rand(5, 3)
    with pytest.raises(BoundError, match=message):
        parzen(**({"samples": good, "validation": good, "test": good} | changes))


def test_images_of_two_precisions_are_refused():
    images = torch.rand(5, 4)
    for other in (images.double(), images.half()):
        with pytest.raises(BoundError, match="validation has shape"):
            parzen(images, other, images)
