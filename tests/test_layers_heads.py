"""The mean over all positions and a dense layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.heads import pooled_head
from cnnjax.layers.parts import Parts
from cnnjax.layers.preactivation import PreActivation
from tests.variables import drawn_variables


@pytest.mark.parametrize("spatial", [(7,), (3, 4), (2, 3, 2)])
def test_mean_then_dense(spatial: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(2, *spatial, 5)).astype(np.float32)
    head = pooled_head(Parts(), 3)
    variables = drawn_variables(head, x.shape)
    own = variables["params"]["dense"]
    assert set(variables["params"]) == {"dense"}
    expected = x.reshape(2, -1, 5).mean(1) @ own["kernel"] + own["bias"]
    np.testing.assert_allclose(head.apply(variables, x), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_before_sees_the_positions() -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    head = pooled_head(Parts(), 3, before=PreActivation(jnp.abs))
    variables = drawn_variables(head, x.shape)
    own = variables["params"]["dense"]
    expected = np.abs(x).mean(1) @ own["kernel"] + own["bias"]
    np.testing.assert_allclose(head.apply(variables, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_dropout_is_on_the_means() -> None:
    head = pooled_head(Parts(), 64, 0.5)
    variables = {"params": {"dense": {"kernel": jnp.eye(64), "bias": jnp.zeros(64)}}}
    ones = jnp.ones((2, 5, 64))
    dropped = head.apply(variables, ones, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0.0, 2.0}
    np.testing.assert_array_equal(head.apply(variables, ones), np.ones((2, 64)))
