"""Rank correlations against SciPy's and by hand, and their bootstrap intervals."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from cnnjax.study.rank_correlation import Interval, agreement, rank_correlations, tau_difference


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), size=st.integers(3, 12), levels=st.integers(2, 20))
def test_coefficients_of_samples_are_scipys(seed: int, size: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(levels, size=(2, size)).astype(float)
    counts = np.stack([np.ones(size, int), *rng.multinomial(size, np.full(size, 1 / size), 3)])
    for tau, rho, count in zip(*rank_correlations(x, y, counts), counts, strict=True):
        a, b = np.repeat(x, count), np.repeat(y, count)
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            assert math.isnan(tau)
            assert math.isnan(rho)
        else:
            assert tau == pytest.approx(stats.kendalltau(a, b, variant="b").statistic)
            assert rho == pytest.approx(stats.spearmanr(a, b).statistic)


def test_ties_by_hand() -> None:
    # Pairs: 1-2 tied in x, 3-4 tied in y, 1-4, 1-3, 2-3 and 2-4 agree: 4 / sqrt(5 * 5).
    found = agreement([1, 1, 2, 3], [1, 2, 3, 3])
    assert found.tau.value == pytest.approx(4 / 5)
    # Mid-ranks 1.5 1.5 3 4 and 1 2 3.5 3.5: (1 * 1.5 + 1 * 0.5 + 0.5 * 1 + 1.5 * 1) / 4.5.
    assert found.rho.value == pytest.approx(4 / 4.5)
    assert math.isnan(found.tau.low)  # four architectures are too few


@pytest.mark.parametrize("sign", [1, -1])
def test_monotone_is_one_and_reversed_minus_one(sign: int) -> None:
    x = np.arange(1.0, 9.0)
    found = agreement(x, sign * np.exp(x))
    assert found.tau == Interval(sign, sign, sign)
    assert found.rho == Interval(sign, sign, sign)


def test_interval_is_scipys_bootstrap_and_always_the_same() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=32)
    y = x + rng.normal(size=32)
    found = agreement(x, y)
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1500,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert (found.rho.low, found.rho.high) == pytest.approx((theirs.low, theirs.high), abs=0.04)
    assert found.tau.low < found.tau.value < found.tau.high
    assert agreement(x, y) == found


def test_constant_resamples_are_left_out() -> None:
    x, y = [0, 0, 0, 0, 1], [0, 1, 0, 1, 2]
    found = agreement(x, y).tau
    assert np.isfinite([found.value, found.low, found.high]).all()


@pytest.mark.parametrize("x", [[], [1.0], [2.0] * 6])
def test_no_coefficient_where_nothing_varies(x: list[float]) -> None:
    found = agreement(x, list(range(len(x))))
    assert all(math.isnan(value) for value in (found.tau.value, found.tau.low, found.rho.value, found.rho.high))
    assert str(found.tau) == "–"


def test_difference_between_predictors_is_paired() -> None:
    y = np.arange(8.0)
    assert tau_difference(y, -y, y) == Interval(2, 2, 2)
    assert tau_difference(y % 3, y % 3, y) == Interval(0, 0, 0)


def test_interval_as_text() -> None:
    assert str(Interval(0.714, 0.5, 0.85)) == "0.71 [0.50, 0.85]"
    assert str(Interval(0.714, math.nan, math.nan)) == "0.71"
