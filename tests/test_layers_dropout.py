"""Dropout: what it keeps in expectation, and that the mask belongs to the example and not to its device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.dropout import Dropout


def drop(layer: Dropout, x: jax.Array, key: jax.Array) -> jax.Array:
    return layer.apply({}, x, train=True, rngs={"dropout": key})


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_rate_and_scale(rate: float) -> None:
    found = np.asarray(drop(Dropout(rate), jnp.full((8, 50, 50), 3.0), jax.random.key(0)))
    kept = found != 0
    np.testing.assert_allclose(found[kept], 3 / (1 - rate), rtol=1e-6)
    standard_error = np.sqrt(rate * (1 - rate) / kept.size)
    assert abs(kept.mean() - (1 - rate)) < 5 * standard_error


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_mask_does_not_depend_on_how_the_batch_is_spread(shards: int) -> None:
    x, key = jnp.ones((8, 5, 3)), jax.random.key(3)
    whole = drop(Dropout(0.5), x, key)
    layer = Dropout(0.5, axis_name="devices")
    spread = jax.vmap(lambda part: drop(layer, part, key), axis_name="devices")(x.reshape(shards, 8 // shards, 5, 3))
    np.testing.assert_array_equal(spread.reshape(x.shape), whole)


def test_each_example_and_key_has_its_own_mask() -> None:
    x = jnp.ones((4, 64))
    first, second = (np.asarray(drop(Dropout(0.5), x, jax.random.key(seed))) for seed in (0, 1))
    rows = {tuple(row) for row in np.concatenate([first, second])}
    assert len(rows) == 8


def test_identity_when_not_training_or_at_rate_zero() -> None:
    x = jnp.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(Dropout(0.9).apply({}, x), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, train=True), x)


def test_gradient_passes_through_what_is_kept() -> None:
    x, key = jnp.arange(1.0, 41.0).reshape(2, 20), jax.random.key(0)
    gradient = jax.grad(lambda x: drop(Dropout(0.25), x, key).sum())(x)
    kept = drop(Dropout(0.25), x, key) != 0
    np.testing.assert_allclose(gradient, np.where(kept, 4 / 3, 0), rtol=1e-6)
    assert 0 < kept.sum() < kept.size
