"""Moments and sums over batches, against NumPy on the whole."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cnnjax.analysis.streaming import (
    GROUPS,
    Moments,
    batches,
    group_weights,
    jackknife,
    moments,
    moments_of,
    share_interval,
    sums,
)
from tests.wilson import wilson

VALUES = np.random.default_rng(0).normal(1e6, 1, (11, 3)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_moments_are_those_of_all_rows(batch_size: int) -> None:
    found = moments(lambda rows: {"as they are": rows}, [VALUES], batch_size)["as they are"]
    assert found.examples == 11
    np.testing.assert_allclose(found.mean, VALUES.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.squares, 11 * VALUES.astype(np.float64).var(axis=0), rtol=1e-9)
    low, high = found.interval()
    expected = stats.t.interval(0.95, 10, loc=found.mean, scale=stats.sem(VALUES.astype(np.float64)))
    np.testing.assert_allclose([low, high], expected, rtol=1e-12)


def test_one_image_has_a_mean_and_no_interval() -> None:
    found = moments(lambda rows: rows, [VALUES[:1]], 4)
    np.testing.assert_array_equal(found.mean, VALUES[0])
    assert np.isnan(found.interval()).all()


def test_moments_of_parts_add_up_to_those_of_all() -> None:
    parts = moments_of(VALUES[:4]) + moments_of(VALUES[4:5]) + moments_of(VALUES[5:])
    whole = moments_of(VALUES)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-9)
    assert parts.examples == 11


def test_the_jackknife_of_a_mean_is_its_interval_and_of_a_quotient_that_of_a_loop() -> None:
    rows = np.random.default_rng(1).uniform(1, 2, (7, 2))
    mean = jackknife(lambda total: total[0] / total[1], [rows, np.ones((7, 1))], np.ones(7))
    np.testing.assert_allclose([mean.mean, *mean.interval()], [rows.mean(axis=0), *moments_of(rows).interval()])

    grouped = [np.r_[rows[:, :1], [[0.0]]], np.r_[rows[:, 1:], [[0.0]]]]
    quotient = jackknife(lambda total: total[0] / total[1], grouped, np.r_[np.ones(7), 0])
    left = [rows[np.arange(7) != i, 0].sum() / rows[np.arange(7) != i, 1].sum() for i in range(7)]
    error = np.sqrt(6 / 7 * np.sum((np.array(left) - np.mean(left)) ** 2))
    middle = rows[:, 0].sum() / rows[:, 1].sum()
    reach = stats.t.ppf(0.975, 6) * error
    np.testing.assert_allclose(
        [quotient.mean[0], *np.ravel(quotient.interval())], [middle, middle - reach, middle + reach]
    )


def test_a_single_group_has_no_interval() -> None:
    alone = jackknife(lambda total: total, np.ones((3, 2)), np.array([0, 5, 0]))
    np.testing.assert_array_equal(alone.mean, [3, 3])
    assert np.isnan(alone.interval()).all()


def test_images_are_dealt_to_groups_in_turn_and_padding_to_none() -> None:
    weights = group_weights(np.array([True, True, True, False]), np.array([0, GROUPS + 1, 1, 2]))
    assert weights.sum(axis=0).tolist() == [1, 1, 1, 0]
    assert weights.argmax(axis=0).tolist()[:3] == [0, 1, 1]


@pytest.mark.parametrize(("correlated", "mean"), [(20.0, 0.97), (0.2, 0.97), (0.2, 0.5), (20.0, 1.0)])
def test_the_interval_of_values_between_0_and_1_holds_in_95_of_100_studies(correlated: float, mean: float) -> None:
    """Images with shares of their own, of which 5 pairs are seen: Student's t holds far less often near 1."""
    rng = np.random.default_rng(0)
    own = rng.beta(correlated * mean, correlated * (1 - mean), (40, 2000)) if mean < 1 else np.ones((40, 2000))
    low, high = moments_of(rng.binomial(5, own) / 5).share_interval()
    assert np.mean((low <= mean) & (mean <= high)) >= 0.94
    assert (low < high).all() and (low >= 0).all() and (high <= 1).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.98, 1.0])
def test_the_interval_of_a_share_is_wilson_s_and_holds_the_share(share: float) -> None:
    for examples in (1, 10, 13, 10**6):
        found = Moments(examples, np.array(share), np.array(0.0)).share_interval()
        np.testing.assert_allclose(found, wilson(share, examples), atol=1e-12)
        assert 0 <= found[0] <= share <= found[1] <= 1
    assert share_interval(3, 4) == pytest.approx(tuple(map(float, wilson(0.75, 4))))


def test_sums_leave_out_the_padding() -> None:
    rows = np.arange(7, dtype=np.float32)
    assert sums(lambda mask, batch: jnp.where(mask, batch, 0).sum(), [rows], 3) == 21


def test_every_batch_has_one_size_and_every_row_is_counted_once() -> None:
    rows, labels = np.arange(7), np.arange(7) * 10
    found = list(batches([rows, labels], 3))
    assert [len(row) for _, row, _ in found] == [3, 3, 3]
    assert np.concatenate([row[mask] for mask, row, _ in found]).tolist() == rows.tolist()
    assert np.concatenate([label[mask] for mask, _, label in found]).tolist() == labels.tolist()


@pytest.mark.parametrize(("lengths", "batch_size"), [((3, 4), 2), ((0, 0), 2), ((3, 3), 0)])
def test_what_cannot_be_batched(lengths: tuple[int, int], batch_size: int) -> None:
    with pytest.raises(ValueError, match="arrays must have one length of at least 1"):
        list(batches([np.zeros(length) for length in lengths], batch_size))
