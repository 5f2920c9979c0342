"""Fits of how a cost grows, on numbers that are known."""

import numpy as np
import pytest

from benchmarks.law import Growth, GrowthError, fitted


@pytest.mark.parametrize("factor, exponent", [(3.0, 1.0), (0.02, 0.5), (7.0, 2.0), (1.0, 0.0)])
def test_a_power_is_found_exactly(factor, exponent):
    sizes = [10.0, 30.0, 50.0, 400.0]
    found = fitted(sizes, [factor * n**exponent for n in sizes])
    assert found.factor == pytest.approx(factor) and found.exponent == pytest.approx(exponent)
    assert found.se == pytest.approx(0, abs=1e-9)
    assert found.cost(4000) == pytest.approx(factor * 4000**exponent)
    assert found.times(10) == pytest.approx(10**exponent)


def test_the_stated_error_of_an_exponent_covers_the_truth():
    """Two standard errors hold the true exponent about 90 % of the time, with four degrees of
    freedom.
    """
    random, sizes = np.random.default_rng(0), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    inside = 0
    for _ in range(400):
        costs = [n**0.8 * np.exp(0.1 * random.standard_normal()) for n in sizes]
        found = fitted(sizes, costs)
        inside += (
            abs(found.exponent - 0.8) < 2.132 * found.se
        )  # 90 % of Student's t with 4 degrees of freedom
    assert 0.85 < inside / 400 < 0.95


def test_a_fixed_cost_makes_growth_look_slow_and_never_fast():
    sizes = [1.0, 10.0, 100.0]
    assert fitted(sizes, [50 + n for n in sizes]).exponent < 1


def test_two_points_have_no_spread():
    assert fitted([1.0, 2.0], [3.0, 12.0]) == Growth(pytest.approx(3), pytest.approx(2), 0.0)


@pytest.mark.parametrize(
    "sizes, costs",
    [([1.0], [1.0]), ([2.0, 2.0], [1.0, 3.0]), ([1.0, 2.0], [0.0, 1.0]), ([1.0, 2.0], [1.0])],
)
def test_what_has_no_power_is_refused(sizes, costs):
    with pytest.raises(GrowthError, match="must be positive"):
        fitted(sizes, costs)
