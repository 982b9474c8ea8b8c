"""Blocks against the same layers applied by hand, in the order of the lectures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.layers.blocks import ConvBlock, DenseBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.normalisation import BatchNorm
from cnnjax.layers.pooling import POOLS
from cnnjax.ops.pooling import average_pool, max_pool
from tests.variables import drawn_variables

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 2)), jnp.float32)


HALVE = POOLS["average"](2, None, "valid", axis_name=None)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("norm", [None, BatchNorm()])
@pytest.mark.parametrize("pool", [None, HALVE])
def test_convolution_norm_detector_pool(train: bool, norm: nn.Module | None, pool: nn.Module | None) -> None:
    conv = Conv(3, 3)
    block = ConvBlock(conv=conv, act=nn.relu, norm=norm, pool=pool)
    variables = drawn_variables(block, X.shape)
    assert set(variables["params"]) == {"conv"} | ({"norm"} if norm else set())

    @jax.jit
    def by_hand(variables: dict[str, Any]) -> jax.Array:
        y = conv.apply({"params": variables["params"]["conv"]}, X)
        if norm:
            own = {"params": variables["params"]["norm"], "batch_stats": variables["batch_stats"]["norm"]}
            y, _ = norm.apply(own, y, train=train, mutable=["batch_stats"])
        y = jnp.maximum(y, 0)
        return average_pool(y, 2) if pool else y

    found, _ = jax.jit(lambda v: block.apply(v, X, train=train, mutable=["batch_stats"]))(variables)
    np.testing.assert_allclose(found, by_hand(variables), rtol=1e-5, atol=1e-5)


def test_pooling_first_is_the_same_where_the_two_commute() -> None:
    block = ConvBlock(conv=Conv(3, 3), act=nn.relu, pool=POOLS["max"](2, None, "valid", axis_name=None))
    first = block.clone(pool_first=True)
    variables = drawn_variables(block, X.shape)

    def value_and_gradient(block: nn.Module) -> Any:
        return jax.value_and_grad(lambda v: jnp.sum(block.apply(v, X) ** 2))(variables)

    found, expected = jax.jit(lambda: (value_and_gradient(first), value_and_gradient(block)))()
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-5), found, expected)
    falling = block.clone(act=jnp.negative, pool_first=True)
    by_hand = -max_pool(block.conv.apply({"params": variables["params"]["conv"]}, X), 2)
    np.testing.assert_allclose(falling.apply(variables, X), by_hand, rtol=1e-5, atol=1e-5)


def test_dense_then_detector() -> None:
    block = DenseBlock(Dense(5), jnp.tanh)
    params = drawn_variables(block, X.shape)["params"]["dense"]
    expected = np.tanh(np.asarray(X).reshape(4, -1) @ params["kernel"] + params["bias"])
    np.testing.assert_allclose(block.apply({"params": {"dense": params}}, X), expected, rtol=1e-5, atol=1e-5)
