"""Magnitudes and keys: one for all examples, or one for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ops.transformations.magnitudes import keys_of_examples, per_example, working_dtype


def test_a_magnitude_is_spread_over_the_examples() -> None:
    x = jnp.zeros((2, 3, 4, 1))
    np.testing.assert_array_equal(per_example(5, x), np.full((2, 1, 1, 1), 5, np.float32))
    np.testing.assert_array_equal(per_example(np.array([1, 2]), x, 2).ravel(), [1, 2])
    assert per_example(0.5, x.astype(jnp.bfloat16)).dtype == jnp.float32
    assert working_dtype(x.astype(jnp.float16)) == jnp.float32
    for wrong in (jnp.ones(3), jnp.ones((2, 1))):
        with pytest.raises(ValueError, match="one for each of 2 examples"):
            per_example(wrong, x)


def test_the_batch_s_rank_is_checked() -> None:
    x = jnp.zeros((2, 3, 4, 1))
    with pytest.raises(ValueError, match=r"a batch \[N, W, C\]; given shape \(2, 3, 4, 1\)"):
        per_example(1, x, 1)
    with pytest.raises(ValueError, match=r"a batch \[N, \*spatial, C\]; given shape \(2, 3\)"):
        per_example(1, x[..., 0, 0])
    with pytest.raises(ValueError, match="floating point, such as float32; given int32"):
        per_example(1, x.astype(jnp.int32))


def test_each_example_has_a_key_by_its_place_or_its_own() -> None:
    key = jax.random.key(0)
    drawn = keys_of_examples(key, 3)
    assert len(np.unique(jax.random.key_data(drawn), axis=0)) == 3
    # The first ones of a larger batch are the same.
    np.testing.assert_array_equal(jax.random.key_data(keys_of_examples(key, 2)), jax.random.key_data(drawn[:2]))
    np.testing.assert_array_equal(jax.random.key_data(keys_of_examples(drawn, 3)), jax.random.key_data(drawn))
    for wrong, words in [(None, "needs a key"), (jax.random.PRNGKey(0), "needs a key"), (drawn, "one key or 2")]:
        with pytest.raises(ValueError, match=words):
            keys_of_examples(wrong, 2)
