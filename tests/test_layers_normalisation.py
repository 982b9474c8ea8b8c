"""Batch normalisation against its definition in NumPy, whole and spread over devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.normalisation import NORMS, BatchNorm

EPSILON, MOMENTUM = 1e-5, 0.9
RNG = np.random.default_rng(0)
BATCHES = RNG.normal(2.0, 3.0, (3, 8, 5, 4, 2)).astype(np.float32)
SCALE, BIAS = np.array([2.0, -0.5], np.float32), np.array([1.0, 3.0], np.float32)


def normalised(x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
    return SCALE * (x - mean) / np.sqrt(var + EPSILON) + BIAS


@jax.jit
def train(variables: dict[str, Any], x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
    return BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])


def start() -> dict[str, dict[str, np.ndarray]]:
    return {
        "params": {"scale": SCALE, "bias": BIAS},
        "batch_stats": {"mean": np.zeros(2, np.float32), "var": np.ones(2, np.float32)},
    }


def test_training_normalises_by_the_batch_and_moves_the_running_statistics() -> None:
    variables = start()
    mean, var = np.zeros(2), np.ones(2)
    for x in BATCHES:
        y, changed = train(variables, x)
        of_batch = x.mean((0, 1, 2)), x.var((0, 1, 2))
        np.testing.assert_allclose(y, normalised(x, *of_batch), rtol=1e-3, atol=1e-3)
        mean = MOMENTUM * mean + (1 - MOMENTUM) * of_batch[0]
        var = MOMENTUM * var + (1 - MOMENTUM) * of_batch[1]
        variables = {**variables, **changed}
    np.testing.assert_allclose(variables["batch_stats"]["mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(variables["batch_stats"]["var"], var, rtol=1e-4)


def test_evaluation_uses_the_running_statistics_and_leaves_them() -> None:
    variables = start()
    variables["batch_stats"] = {
        "mean": np.array([1.0, -1.0], np.float32),
        "var": np.array([4.0, 0.25], np.float32),
    }
    y, changed = jax.jit(lambda v, x: BatchNorm().apply(v, x, mutable=["batch_stats"]))(variables, BATCHES[0])
    np.testing.assert_allclose(y, normalised(BATCHES[0], *variables["batch_stats"].values()), rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"])


def test_starting_values() -> None:
    variables = BatchNorm().init(jax.random.key(0), BATCHES[0])
    expected = {"params": {"scale": [1, 1], "bias": [0, 0]}, "batch_stats": {"mean": [0, 0], "var": [1, 1]}}
    assert jax.tree.map(lambda array: array.tolist(), variables) == expected


@pytest.mark.parametrize("shards", [2, 4])
def test_batch_spread_over_devices_is_normalised_as_a_whole(shards: int) -> None:
    x = BATCHES[0]
    whole, changed = train(start(), x)
    layer = BatchNorm(axis_name="devices")
    on_one = jax.vmap(lambda part: layer.apply(start(), part, train=True, mutable=["batch_stats"]), axis_name="devices")
    spread, statistics = jax.jit(on_one)(x.reshape(shards, 8 // shards, *x.shape[1:]))
    np.testing.assert_allclose(spread.reshape(x.shape), whole, rtol=1e-4, atol=1e-4)
    for name, array in changed["batch_stats"].items():
        for shard in range(shards):
            np.testing.assert_allclose(statistics["batch_stats"][name][shard], array, rtol=1e-5)


def test_gradient_is_orthogonal_to_constants_and_to_the_input() -> None:
    x = jnp.asarray(BATCHES[0])
    weights = RNG.normal(size=x.shape).astype(np.float32)
    variables = start()

    def loss(x: jax.Array) -> jax.Array:
        y, _ = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(weights * y)

    gradient = np.asarray(jax.jit(jax.grad(loss))(x), np.float64)
    size = np.abs(gradient).sum()
    np.testing.assert_allclose(gradient.sum((0, 1, 2)) / size, 0, atol=1e-5)  # the output ignores a shift of its input
    np.testing.assert_allclose((gradient * x).sum((0, 1, 2)) / size, 0, atol=1e-4)  # and, but for epsilon, a scaling


def test_norms_by_name() -> None:
    assert NORMS["none"]("devices") is None
    layer = NORMS["batch"]("devices")
    assert isinstance(layer, BatchNorm)
    assert layer.axis_name == "devices"
