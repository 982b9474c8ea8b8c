"""Means and intervals over seeds, against SciPy's tests and the table of Student's t."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnjax.study.statistics import Estimate, estimate, paired_difference


def test_interval_of_two_seeds_is_that_of_the_table() -> None:
    # t(0.975, 1) = 12.706; the mean of 1 and 3 has the standard error 1.
    found = estimate([1.0, 3.0])
    assert found.mean == 2
    assert found.low == pytest.approx(2 - 12.706, abs=1e-3)
    assert found.high == pytest.approx(2 + 12.706, abs=1e-3)
    assert found.seeds == 2


@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_interval_is_that_of_the_t_test(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(0.9, 0.02, seeds)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = estimate(values.tolist())
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_difference_is_that_of_the_paired_t_test(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    baseline = rng.normal(0.9, 0.1, seeds)
    values = baseline + rng.normal(0.01, 0.002, seeds)
    interval = stats.ttest_rel(values, baseline).confidence_interval(0.95)
    found = paired_difference(dict(enumerate(values.tolist())), dict(enumerate(baseline.tolist())))
    assert found.mean == pytest.approx((values - baseline).mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.seeds == seeds


def test_difference_pairs_by_seed_and_leaves_out_what_has_no_partner() -> None:
    found = paired_difference({4: 5.0, 0: 1.0, 7: 100.0}, {0: 0.5, 2: -100.0, 4: 4.0})
    assert found == estimate([0.5, 1.0])


def test_nothing_in_common_has_no_difference() -> None:
    found = paired_difference({0: 1.0}, {1: 1.0})
    assert found.seeds == 0
    assert math.isnan(found.mean)


def test_one_seed_has_no_interval() -> None:
    found = estimate([0.7])
    assert (found.mean, found.seeds) == (0.7, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_seeds_have_an_interval_of_no_width() -> None:
    assert estimate([0.25] * 3) == Estimate(0.25, 0.25, 0.25, 3)
