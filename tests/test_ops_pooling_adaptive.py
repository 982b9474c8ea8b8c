"""Adaptive pooling and pyramids against loops over regions, for inputs of any size."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.pooling import (
    adaptive_average_pool,
    adaptive_max_pool,
    global_average_pool,
    global_max_pool,
    spatial_pyramid,
)

SIZES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=3)


@given(SIZES, st.integers(0, 99))
def test_each_region_is_summarised_and_shares_its_gradient(sizes: list[tuple[int, int]], seed: int) -> None:
    spatial, regions = zip(*sizes, strict=True)
    rng = np.random.default_rng(seed)
    x = rng.integers(-4, 0, (2, *spatial, 2)).astype(np.float32)
    cotangent = rng.normal(size=(2, *regions, 2)).astype(np.float32)

    @jax.jit
    def run(x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        pools = [functools.partial(pool, size=regions) for pool in (adaptive_average_pool, adaptive_max_pool)]
        pulled = (jax.vjp(pool, x) for pool in pools)
        return [(value, back(cotangent)[0]) for value, back in pulled]

    (mean, of_mean), (greatest, of_greatest) = run(x)
    assert mean.shape == greatest.shape == cotangent.shape
    axes = tuple(range(1, x.ndim - 1))
    expected_mean, expected_greatest = np.zeros(x.shape), np.zeros(x.shape)
    for index in itertools.product(*map(range, regions)):
        bounds = [(math.floor(i * n / o), math.ceil((i + 1) * n / o)) for i, (n, o) in zip(index, sizes, strict=True)]
        at, inside = (slice(None), *index), (slice(None), *(slice(*pair) for pair in bounds))
        seen, weight = x[inside], np.expand_dims(cotangent[at], axes)
        np.testing.assert_allclose(mean[at], seen.mean(axes), rtol=1e-5)
        np.testing.assert_array_equal(greatest[at], seen.max(axes))
        ties = seen == seen.max(axes, keepdims=True)
        expected_mean[inside] += weight / np.prod(seen.shape[1:-1])
        expected_greatest[inside] += weight * ties / ties.sum(axes, keepdims=True)
    np.testing.assert_allclose(of_mean, expected_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_greatest, expected_greatest, rtol=1e-4, atol=1e-5)


def test_regions_of_pytorchs_worked_by_hand() -> None:
    x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    np.testing.assert_array_equal(adaptive_average_pool(x, 3).ravel(), [0.5, 2, 3.5])
    np.testing.assert_array_equal(adaptive_max_pool(x, 2).ravel(), [2, 4])
    np.testing.assert_array_equal(adaptive_average_pool(x[:, :2], 4).ravel(), [0, 0, 1, 1])


def test_global_pools_and_their_gradient_at_a_tie() -> None:
    x = np.array([[1, 7], [7, 1]], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(global_average_pool(x), [[4]])
    value, gradient = jax.value_and_grad(lambda x: global_max_pool(x).sum())(x)
    assert value == 7
    np.testing.assert_array_equal(gradient.ravel(), [0, 0.5, 0.5, 0])


def test_pyramid_has_the_whole_and_then_the_quadrants_with_their_channels_together() -> None:
    x = np.array([[1, 2], [3, 6]], np.float32)[None, :, :, None] * np.array([1, 10], np.float32)
    np.testing.assert_array_equal(spatial_pyramid(x, (1, 2)), [[3, 30, 1, 10, 2, 20, 3, 30, 6, 60]])
    np.testing.assert_array_equal(spatial_pyramid(x, (1, 2), "max"), [[6, 60, 1, 10, 2, 20, 3, 30, 6, 60]])


@pytest.mark.parametrize("spatial", [(7,), (3,), (5, 9), (2, 8), (4, 3, 5)])
def test_features_have_a_fixed_size_whatever_the_inputs(spatial: tuple[int, ...]) -> None:
    x = jax.ShapeDtypeStruct((2, *spatial, 3), jnp.float32)
    pooled = jax.eval_shape(lambda x: adaptive_max_pool(x, 4), x)
    assert pooled.shape == (2, *[4] * len(spatial), 3)
    features = jax.eval_shape(lambda x: spatial_pyramid(x, (1, 2, 3)), x)
    assert features.shape == (2, sum(level ** len(spatial) for level in (1, 2, 3)) * 3)


def test_gradients_are_lowered_without_a_scatter() -> None:
    gradient = jax.grad(lambda x: spatial_pyramid(x, (1, 2), "max").sum() + adaptive_average_pool(x, 3).sum())
    assert "scatter" not in jax.jit(gradient).lower(jnp.ones((1, 5, 6, 2))).as_text()


def test_wrong_sizes_levels_and_kinds_are_refused() -> None:
    x = jnp.ones((1, 4, 4, 1))
    with pytest.raises(ValueError, match="the output's size must be"):
        adaptive_max_pool(x, (2, 2, 2))
    with pytest.raises(ValueError, match="a pyramid's level must be"):
        spatial_pyramid(x, (1, 0))
    with pytest.raises(ValueError, match="at least one level"):
        spatial_pyramid(x, ())
    with pytest.raises(ValueError, match="average or max"):
        spatial_pyramid(x, (1,), "mean")  # type: ignore[arg-type]
