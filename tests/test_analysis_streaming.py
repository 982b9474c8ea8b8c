"""Moments and sums over batches, against NumPy on the whole."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cnnjax.analysis.streaming import batches, moments, sums

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
