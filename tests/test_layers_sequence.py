"""Named layers one after another."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax.layers.dense import Dense
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.sequence import Named, Sequential
from tests.variables import drawn_variables

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def test_layers_in_order_below_their_names() -> None:
    inner = Sequential((Named("second", Dense(5)), Named("third", Dense(2))))
    layers = Sequential((Named("first", Dense(4)), Named("inner", inner)))
    variables = drawn_variables(layers, X.shape)
    params = variables["params"]
    assert set(params) == {"first", "inner"}
    assert set(params["inner"]) == {"second", "third"}
    y = X
    for own in (params["first"], params["inner"]["second"], params["inner"]["third"]):
        y = y @ own["kernel"] + own["bias"]
    np.testing.assert_allclose(layers.apply(variables, X), y, rtol=1e-5, atol=1e-5)


def test_one_module_twice_is_two_layers() -> None:
    dense = Dense(4)
    params = drawn_variables(Sequential((Named("a", dense), Named("b", dense))), X.shape)["params"]
    assert set(params) == {"a", "b"}


def test_training_reaches_the_layers() -> None:
    layers = Sequential((Named("inner", Sequential((Named("dropout", Dropout(0.5)),))),))
    ones = jnp.ones((4, 8))
    np.testing.assert_array_equal(layers.apply({}, ones), ones)
    dropped = layers.apply({}, ones, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0.0, 2.0}


def test_none_at_all_is_the_identity() -> None:
    empty: nn.Module = Sequential(())
    np.testing.assert_array_equal(empty.apply({}, X), X)
