"""Inception modules: the lectures' arithmetic of ANCHORS, and their branches against NumPy."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.inception import Branches, CeilPool, InceptionWidths, inception, naive_inception
from cnnjax.layers.parts import Parts
from cnnjax.models.cost import multiply_adds
from tests.variables import drawn_variables

PARTS = Parts()
POOL = PARTS.pooling(3, 1, 1)
NAIVE = naive_inception(PARTS.block, POOL, 128, 192, 96)
REDUCED = inception(PARTS.block, POOL, InceptionWidths(128, 64, 192, 64, 96, 64))


@pytest.mark.parametrize(
    ("module", "channels", "millions", "exact"),
    [
        (NAIVE, 672, 854.2, 784 * 256 * (128 + 9 * 192 + 25 * 96)),
        (REDUCED, 480, 271.4, 784 * (256 * (128 + 3 * 64) + 64 * (9 * 192 + 25 * 96))),
    ],
)
def test_cost_on_28_28_256(module: Branches, channels: int, millions: float, exact: int) -> None:
    x = jax.ShapeDtypeStruct((1, 28, 28, 256), jnp.float32)
    y, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    assert y.shape == (1, 28, 28, channels)
    count = multiply_adds(module.apply, variables, x)
    assert count == exact
    assert round(count / 1e6, 1) == millions


def greatest_of_3x3(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    rows, columns = x.shape[1:3]
    return np.max([padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)


def test_naive_module_keeps_its_input_and_its_neighbourhoods() -> None:
    x = np.random.default_rng(0).integers(0, 9, (1, 5, 4, 2)).astype(np.float32)
    module = naive_inception(PARTS.block, POOL, 2, 1, 1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    params: Any = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    params["branch1"]["conv"]["kernel"] = jnp.eye(2)[None, None]
    params["branch2"]["conv"]["kernel"] = jnp.ones((3, 3, 2, 1))
    params["branch3"]["conv"]["kernel"] = jnp.ones((5, 5, 2, 1))
    found = np.asarray(module.apply({"params": params}, x))
    np.testing.assert_array_equal(found[..., :2], x)
    padded = np.pad(x.sum(-1), ((0, 0), (2, 2), (2, 2)))
    for channel, (margin, window) in {2: (1, 3), 3: (0, 5)}.items():
        sums = sum(padded[:, margin + i :, margin + j :][:, :5, :4] for i in range(window) for j in range(window))
        np.testing.assert_array_equal(found[..., channel], sums)
    np.testing.assert_array_equal(found[..., 4:], greatest_of_3x3(x))


@pytest.mark.parametrize("window", [3, 5])
def test_reduced_module_by_its_branches(window: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    module = inception(PARTS.block, POOL, InceptionWidths(1, 2, 3, 4, 5, 6), window)
    variables = drawn_variables(module, x.shape)
    params = variables["params"]
    found = np.asarray(jax.jit(module.apply)(variables, x))

    def mix(x: np.ndarray, own: Any) -> np.ndarray:
        return np.maximum(x @ own["conv"]["kernel"][0, 0] + own["conv"]["bias"], 0)

    np.testing.assert_allclose(found[..., :1], mix(x, params["branch1"]), rtol=1e-4, atol=1e-5)
    for place, name, size in ((slice(1, 4), "branch2", 3), (slice(4, 9), "branch3", window)):
        reduced = mix(x, params[name]["reduction"])
        own = params[name]["conv"]["conv"]
        assert own["kernel"].shape[:2] == (size, size)
        half = size // 2
        padded = np.pad(reduced, ((0, 0), (half, half), (half, half), (0, 0)))
        offsets = [(i, j) for i in range(size) for j in range(size)]
        y = sum(padded[:, i : i + 5, j : j + 4] @ own["kernel"][i, j] for i, j in offsets) + own["bias"]
        np.testing.assert_allclose(found[..., place], np.maximum(y, 0), rtol=1e-4, atol=1e-5)
    pooled = mix(greatest_of_3x3(x), params["branch4"]["projection"])
    np.testing.assert_allclose(found[..., 9:], pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "strides"), [(3, 2), (2, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize("size", [6, 9])
def test_last_window_is_cut_short_not_dropped(size: int, window: int, strides: int) -> None:
    x = np.random.default_rng(size).normal(size=(1, size, 1)).astype(np.float32)
    positions = math.ceil((size - window) / strides) + 1
    expected = [x[0, strides * p : strides * p + window, 0].max() for p in range(positions)]
    found = CeilPool(PARTS, window, strides).apply({}, jnp.asarray(x))
    np.testing.assert_array_equal(found[0, :, 0], expected)


def test_ceil_pool_in_three_dimensions_and_of_other_kinds() -> None:
    found = CeilPool(Parts(pool="average"), 3, 2).apply({}, jnp.ones((1, 4, 5, 6, 2)))
    np.testing.assert_array_equal(found, np.ones((1, 2, 2, 3, 2)))


def test_widths_are_scaled_and_rounded_down() -> None:
    assert InceptionWidths(64, 96, 128, 16, 32, 3).scaled(8, 64) == InceptionWidths(8, 12, 16, 2, 4, 1)
