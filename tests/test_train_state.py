"""Totals over examples, and the state before the first step."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.train.state import Sums, initial_state


def test_sums_add_and_divide_by_all_examples() -> None:
    total = Sums.zero().add(Sums(jnp.float32(3), jnp.int32(2), jnp.int32(4)))
    total = total.add(Sums(jnp.float32(6), jnp.int32(6), jnp.int32(6)))
    assert total.metrics() == {"loss": pytest.approx(0.9), "accuracy": pytest.approx(0.8)}
    assert int(total.examples) == 10


def test_sums_count_in_integers() -> None:
    # 2^24 + 1 is the first integer that float32 does not hold.
    total = Sums(jnp.float32(0), jnp.int32(2**24), jnp.int32(2**24)).add(
        Sums(jnp.float32(0), jnp.int32(1), jnp.int32(1))
    )
    assert int(total.correct) == int(total.examples) == 2**24 + 1


def test_initial_state_has_done_nothing() -> None:
    trained, stats = {"head/kernel": jnp.ones((2, 3))}, {"stage1/norm/mean": jnp.zeros(2)}
    state = initial_state(trained, stats, optax.trace(0.9))
    assert int(state.step) == 0
    assert int(state.sums.examples) == 0
    assert int(state.best.correct) < 0  # whatever the first evaluation finds, it is better
    np.testing.assert_array_equal(state.best.trained["head/kernel"], np.ones((2, 3)))
    np.testing.assert_array_equal(state.best.stats["stage1/norm/mean"], np.zeros(2))
    np.testing.assert_array_equal(state.optimiser.trace["head/kernel"], np.zeros((2, 3)))
