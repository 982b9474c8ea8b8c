"""Codes against explicit loops over patches, centroids and blocks in NumPy, forward and gradient."""

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.coding import (
    CONTRAST_EPSILON,
    block_histograms,
    correlate_contrast,
    hard_code,
    normalise_contrast,
    sign_codes,
    soft_threshold_code,
    triangle_code,
)

Function = Callable[..., np.ndarray]
EPSILON = 0.05


def places(spatial: tuple[int, ...], window: tuple[int, ...], stride: int) -> Iterator[tuple[tuple[int, ...], tuple]]:
    """The number of each position of a window, and what it sees."""
    starts = [range(0, size - k + 1, stride) for size, k in zip(spatial, window, strict=True)]
    for start in itertools.product(*starts):
        seen = tuple(slice(i, i + k) for i, k in zip(start, window, strict=True))
        yield tuple(i // stride for i in start), seen


def contrast_by_loops(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    window = kernel.shape[:-2]
    positions = [size - k + 1 for size, k in zip(x.shape[1:-1], window, strict=True)]
    result = np.zeros((len(x), *positions, kernel.shape[-1]))
    for n, (position, seen) in itertools.product(range(len(x)), places(x.shape[1:-1], window, 1)):
        patch = x[n][seen].ravel()
        patch = (patch - patch.mean()) / np.sqrt(patch.var() + EPSILON)
        result[n][position] = patch @ kernel.reshape(len(patch), -1)
    return result


def triangle_by_loops(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    result = np.zeros((*x.shape[:-1], centroids.shape[1]))
    for index in np.ndindex(x.shape[:-1]):
        z = [np.linalg.norm(x[index] - centroid) for centroid in centroids.T]
        result[index] = [max(0.0, float(np.mean(z)) - distance) for distance in z]
    return result


def soft_threshold_by_loops(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    result = np.zeros((*x.shape[:-1], centroids.shape[1]))
    for index in np.ndindex(x.shape[:-1]):
        result[index] = [max(0.0, x[index] @ d / np.linalg.norm(d) - 0.25) for d in centroids.T]
    return result


def assert_same(function: Callable[..., jax.Array], reference: Function, *inputs: np.ndarray) -> None:
    """The same values, and the same slope along a drawn direction of a drawn sum of the outputs."""
    rng = np.random.default_rng(7)
    expected = reference(*inputs)
    weights = rng.normal(size=expected.shape)
    directions = [rng.normal(size=each.shape) for each in inputs]

    @jax.jit
    def value_and_gradients(*inputs: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        value, back = jax.vjp(function, *inputs)
        return value, back(jnp.asarray(weights, value.dtype))

    value, gradients = value_and_gradients(*[jnp.asarray(each, jnp.float32) for each in inputs])
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    ends = [
        np.sum(weights * reference(*[each + sign * 1e-6 * d for each, d in zip(inputs, directions, strict=True)]))
        for sign in (1, -1)
    ]
    found = sum(np.sum(np.asarray(g, np.float64) * d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=2e-3, atol=2e-3)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=3), st.integers(1, 3), st.data())
def test_contrast_of_every_patch(sizes: list[tuple[int, int]], channels: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(0.5, 1, (2, *[k + more for k, more in sizes], channels))
    kernel = rng.normal(size=(*[k for k, _ in sizes], channels, 4))
    assert_same(lambda x, kernel: correlate_contrast(x, kernel, epsilon=EPSILON), contrast_by_loops, x, kernel)


def test_contrast_of_given_patches() -> None:
    patches = np.random.default_rng(0).normal(2, 3, (2, 4, 5))
    patches[1, 1] = 7
    expected = np.array([[(p - p.mean()) / np.sqrt(p.var() + CONTRAST_EPSILON) for p in row] for row in patches])
    found = jax.jit(normalise_contrast)(patches.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[1, 1], 0)
    assert abs(CONTRAST_EPSILON * (255 * 0.25) ** 2 - 10) < 1e-9


@pytest.mark.parametrize(
    ("function", "reference"), [(triangle_code, triangle_by_loops), (soft_threshold_code, soft_threshold_by_loops)]
)
def test_codes_by_centroids(function: Callable[..., jax.Array], reference: Function) -> None:
    rng = np.random.default_rng(3)
    x, centroids = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(5, 7))
    assert_same(function, reference, x, centroids)
    assert 0.2 < np.mean(reference(x, centroids) == 0) < 0.8


def test_hard_code_is_the_nearest_centroid_and_the_first_of_equals() -> None:
    centroids = np.array([[0, 4, 0, 4], [0, 0, 0, 3]], np.float32)
    x = np.array([[[1, 0], [3, 1]], [[5, 2], [2, 0]]], np.float32)
    found = jax.jit(hard_code)(x, centroids)
    np.testing.assert_array_equal(found.argmax(-1), [[0, 1], [3, 0]])
    np.testing.assert_array_equal(found.sum(-1), 1)


def test_slopes_are_finite_where_a_vector_lies_on_a_centroid_of_zeros() -> None:
    x, centroids = jnp.zeros((1, 3)), jnp.zeros((3, 2)).at[0, 1].set(1)

    @jax.jit
    def slopes(x: jax.Array, centroids: jax.Array) -> list[jax.Array]:
        codes = (triangle_code, soft_threshold_code)
        return [jax.grad(lambda *both, code=code: code(*both).sum(), (0, 1))(x, centroids) for code in codes]

    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes(x, centroids)))


def test_signs_are_the_bits_of_a_number() -> None:
    x = np.random.default_rng(0).integers(-2, 3, (2, 3, 6)).astype(np.float32)
    found = jax.jit(sign_codes, static_argnums=1)(x, 3)
    assert found.dtype == jnp.int32
    expected = [[[sum(2**b * (v[3 * m + b] > 0) for b in range(3)) for m in (0, 1)] for v in row] for row in x]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("spatial", "window", "stride"), [((9,), (4,), 2), ((5, 4), (3, 2), 2), ((3, 3, 4), (2,) * 3, 1)]
)
def test_histograms_of_every_block(spatial: tuple[int, ...], window: tuple[int, ...], stride: int) -> None:
    codes = np.random.default_rng(0).integers(0, 5, (2, *spatial, 3)).astype(np.int32)
    found = jax.jit(lambda codes: block_histograms(codes, 5, window, stride))(codes)
    assert found.shape == (2, *[(size - k) // stride + 1 for size, k in zip(spatial, window, strict=True)], 3, 5)
    for n, c, (block, seen) in itertools.product(range(2), range(3), places(spatial, window, stride)):
        counts = np.bincount(codes[n, ..., c][seen].ravel(), minlength=5)
        np.testing.assert_allclose(found[(n, *block, c)], counts / counts.sum(), rtol=1e-6)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"centroids must be \[3, F\] for an input \(2, 3\); given \(4, 5\)"):
        triangle_code(jnp.ones((2, 3)), jnp.ones((4, 5)))
    with pytest.raises(ValueError, match=r"centroids must be \[3, F\]"):
        soft_threshold_code(jnp.ones((2, 3)), jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="bits must be 1 to 30 and divide 6 channels; given 4"):
        sign_codes(jnp.ones((2, 6)), 4)
    with pytest.raises(ValueError, match="a window of 4 does not fit in 3"):
        block_histograms(jnp.ones((1, 3, 1), jnp.int32), 2, 4, 1)
    with pytest.raises(ValueError, match="channels"):
        correlate_contrast(jnp.ones((1, 3, 2)), jnp.ones((2, 1, 1)))
