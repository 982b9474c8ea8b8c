"""Norm, detector, convolution, against the same layers applied by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.layers.convolution import Conv
from cnnjax.layers.normalisation import BatchNorm
from cnnjax.layers.preactivation import PreActivatedConv, PreActivation
from tests.variables import drawn_variables

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 4, 2)), jnp.float32)


def normalised(x: jax.Array, variables: dict, train: bool) -> np.ndarray:
    params, stats, x = variables["params"]["norm"], variables["batch_stats"]["norm"], np.asarray(x, np.float64)
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (stats["mean"], stats["var"])
    return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]


@pytest.mark.parametrize("train", [False, True])
def test_norm_then_detector(train: bool) -> None:
    layer = PreActivation(nn.relu, BatchNorm())
    variables = drawn_variables(layer, X.shape)
    found, _ = layer.apply(variables, X, train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(found, np.maximum(normalised(X, variables, train), 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("train", [False, True])
def test_norm_then_detector_then_convolution(train: bool) -> None:
    layer = PreActivatedConv(Conv(3, 1), jnp.abs, BatchNorm())
    variables = drawn_variables(layer, X.shape)
    conv = variables["params"]["conv"]
    found, _ = layer.apply(variables, X, train=train, mutable=["batch_stats"])
    expected = np.abs(normalised(X, variables, train)) @ conv["kernel"][0, 0] + conv["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_without_a_norm() -> None:
    conv = PreActivatedConv(Conv(3, 1), nn.relu)
    variables = drawn_variables(conv, X.shape)
    assert set(variables["params"]) == {"conv"}
    params = variables["params"]["conv"]
    expected = np.maximum(X, 0) @ params["kernel"][0, 0] + params["bias"]
    np.testing.assert_allclose(conv.apply(variables, X), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(PreActivation(nn.relu).apply({}, X), np.maximum(X, 0))
