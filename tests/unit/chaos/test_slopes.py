"""Whether a figure grows, and how sure that is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.chaos.slopes import Trend, slope

HOUR = [float(second) for second in range(0, 3600, 5)]


def noisy(per_hour, *, mean=100.0, noise=5.0, seed=1):
    chance = random.Random(seed)
    return [mean + per_hour * at / 3600 + chance.gauss(0, noise) for at in HOUR]


def test_a_line_without_noise_has_its_own_slope():
    found = slope(HOUR, noisy(50.0, noise=0.0))

    assert found.per_hour == pytest.approx(50.0)
    assert found.error == pytest.approx(0.0, abs=1e-6)
    assert found.trend is Trend.GROWS


@given(st.integers(0, 2**32))
def test_noise_around_a_constant_does_not_grow(seed):
    assert slope(HOUR, noisy(0.0, seed=seed)).trend is not Trend.GROWS


@given(st.integers(0, 2**32))
def test_a_slope_is_found_below_its_noise(seed):
    found = slope(HOUR, noisy(20.0, seed=seed))

    assert found.trend is Trend.GROWS
    # The error itself is an estimate, of 22 degrees of freedom: six of them are missed by a seed in 200,000.
    assert found.per_hour == pytest.approx(20.0, abs=10 * found.error + 1e-9)


def test_what_surely_grows_and_does_not_matter_in_the_time_grows_slowly():
    assert slope(HOUR, noisy(1.0, noise=0.01)).trend is Trend.SLOW


def test_what_falls_is_flat():
    assert slope(HOUR, noisy(-50.0)).trend is Trend.FLAT


@pytest.mark.parametrize("value", [0.0, 0.1, 47.43])
def test_a_constant_is_flat(value):
    assert slope(HOUR, [value] * len(HOUR)).trend is Trend.FLAT


def test_a_single_step_of_a_constant_is_not_lost_in_its_own_steadiness():
    steps = [10.0] * (len(HOUR) // 2) + [20.0] * (len(HOUR) - len(HOUR) // 2)

    assert slope(HOUR, steps).trend is Trend.GROWS


def test_samples_that_are_too_few_tell_nothing():
    with pytest.raises(ValueError, match="3 samples"):
        slope([0.0, 5.0, 10.0], [1.0, 2.0, 3.0])
