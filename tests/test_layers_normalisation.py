"""Normalisation layers against their definitions in NumPy; batch normalisation whole and spread over devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.normalisation import NORMS, BatchNorm
from cnnjax.ops.normalisation import local_contrast, local_response

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
    assert set(NORMS) == {"none", "batch", "layer", "group", "local_response", "local_contrast"}


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (2, 1), (15, 5), (32, 16), (64, 32), (66, 22), (37, 1)])
def test_group_norm_has_as_many_groups_of_two_channels_or_more_as_divide_them(channels: int, groups: int) -> None:
    x = RNG.normal(2.0, 3.0, (2, 3, 3, channels)).astype(np.float32)
    layer = NORMS["group"](None)
    assert layer is not None
    found, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    assert jax.tree.map(np.shape, variables) == {"params": {"scale": (channels,), "bias": (channels,)}}
    grouped = np.asarray(found).reshape(2, 9, groups, -1)
    np.testing.assert_allclose(grouped.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(grouped.std((1, 3)), 1, atol=1e-3)


@pytest.mark.parametrize("spatial", [(7,), (5, 4), (3, 4, 2)])
def test_layer_norm_is_over_all_of_an_example(spatial: tuple[int, ...]) -> None:
    x = RNG.normal(2.0, 3.0, (3, *spatial, 2)).astype(np.float32)
    axes = tuple(range(1, x.ndim))
    layer = NORMS["layer"](None)
    assert layer is not None
    expected = normalised(x, x.mean(axes, keepdims=True), x.var(axes, keepdims=True))
    variables = {"params": {"scale": SCALE, "bias": BIAS}}
    found = jax.jit(lambda v, x: [layer.apply(v, x, train=train) for train in (False, True)])(variables, x)
    for y in found:
        np.testing.assert_allclose(y, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "op"), [("local_response", local_response), ("local_contrast", local_contrast)])
def test_local_norms_are_their_operations_and_have_no_parameters(
    name: str, op: Callable[[np.ndarray], jax.Array]
) -> None:
    layer = NORMS[name](None)
    assert layer is not None
    x = 50 * BATCHES[0]

    @jax.jit
    def outputs(x: jax.Array) -> tuple[jax.Array, Any, jax.Array, jax.Array]:
        y, variables = layer.init_with_output(jax.random.key(0), x)
        return y, variables, layer.apply({}, x, train=True), op(x)

    evaluated, variables, trained, expected = outputs(x)
    assert variables == {}
    np.testing.assert_allclose(evaluated, expected, rtol=1e-6)
    np.testing.assert_allclose(trained, expected, rtol=1e-6)
    assert np.abs(expected - x).max() > 1
