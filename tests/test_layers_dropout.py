"""Dropout: what it keeps in expectation, and that the mask belongs to the example and not to its device."""

import functools

import jax
import numpy as np

from cnnjax.layers.dropout import Dropout

RATE = 0.25
X = np.random.default_rng(0).uniform(1, 2, (8, 500)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def drop(layer: Dropout, x: jax.Array, key: jax.Array) -> jax.Array:
    return layer.apply({}, x, train=True, rngs={"dropout": key})


def test_rate_and_scale() -> None:
    found = np.asarray(drop(Dropout(RATE), X, jax.random.key(0)))
    kept = found != 0
    np.testing.assert_allclose(found[kept], X[kept] / (1 - RATE), rtol=1e-6)
    standard_error = np.sqrt(RATE * (1 - RATE) / kept.size)
    assert abs(kept.mean() - (1 - RATE)) < 4 * standard_error


def test_mask_does_not_depend_on_how_the_batch_is_spread() -> None:
    key = jax.random.key(3)
    layer = Dropout(RATE, axis_name="devices")
    shards = X.reshape(4, 2, -1)
    spread = jax.vmap(lambda part: drop(layer, part, key), axis_name="devices")(shards)
    np.testing.assert_array_equal(spread.reshape(X.shape), drop(Dropout(RATE), X, key))


def test_each_example_and_key_has_its_own_mask() -> None:
    masks = [np.asarray(drop(Dropout(RATE), X, jax.random.key(seed))) != 0 for seed in (0, 1)]
    assert len({tuple(row) for row in np.concatenate(masks)}) == 16


def test_identity_when_not_training_or_at_rate_zero() -> None:
    np.testing.assert_array_equal(Dropout(0.9).apply({}, X), X)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, X, train=True), X)


def test_gradient_passes_through_what_is_kept() -> None:
    key = jax.random.key(0)
    gradient = jax.jit(jax.grad(lambda x: drop(Dropout(RATE), x, key).sum()))(X)
    kept = drop(Dropout(RATE), X, key) != 0
    np.testing.assert_allclose(gradient, np.where(kept, 1 / (1 - RATE), 0), rtol=1e-6)
