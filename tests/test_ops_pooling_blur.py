"""Blur pooling against SciPy's filters, and what it buys under a shift."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cnnjax.ops.pooling import binomial_kernel, blur_pool, max_blur_pool, max_pool
from tests.pooling_cases import Case, cases, output_shape, positions, pulled_back

PASCAL = {1: [1], 2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}


def blurred(x: np.ndarray, size: int, stride: int, mode: str) -> np.ndarray:
    """SciPy's correlation along each spatial axis, and every `stride`-th place of it."""
    kernel = np.array(PASCAL[size]) / 2 ** (size - 1)
    for axis in range(1, x.ndim - 1):
        # SciPy's origin of an even kernel is the later of its middle elements, the paper's the earlier.
        x = ndimage.correlate1d(x, kernel, axis, mode=mode, origin=-1 if size % 2 == 0 else 0)
    return x[(slice(None), *[slice(None, None, stride)] * (x.ndim - 2))]


@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([("reflect", "mirror"), ("circular", "wrap")]),
)
def test_value_and_gradient_are_those_of_scipy(dimensions: int, size: int, stride: int, modes: tuple[str, str]) -> None:
    border, mode = modes
    shape = (1, *(7, 4, 3)[:dimensions], 1)
    x = np.random.default_rng(size).integers(-9, 10, shape).astype(np.float32)
    cotangent = np.random.default_rng(0).normal(size=blurred(x, size, stride, mode).shape).astype(np.float32)

    @jax.jit
    def run(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, back = jax.vjp(lambda x: blur_pool(x, size, strides=stride, border=border), x)
        return value, back(cotangent)[0]

    value, gradient = run(x)
    np.testing.assert_allclose(value, blurred(x, size, stride, mode), rtol=1e-5, atol=1e-5)
    basis = np.eye(x.size, dtype=np.float32).reshape(-1, *shape[1:])
    np.testing.assert_allclose(
        gradient.ravel(),
        [np.sum(cotangent * blurred(e[None], size, stride, mode)) for e in basis],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("size", PASCAL)
def test_kernels_are_the_rows_of_pascals_triangle(size: int) -> None:
    np.testing.assert_array_equal(binomial_kernel(size) * 2 ** (size - 1), PASCAL[size])


def test_padding_of_its_own_choice() -> None:
    x = np.array([4, 8, 0, 4, 12], np.float32).reshape(1, 5, 1)
    np.testing.assert_array_equal(blur_pool(x, 3, strides=1, padding="valid").ravel(), [5, 3, 5])
    np.testing.assert_array_equal(blur_pool(x, 3, strides=2, padding=1).ravel(), [6, 3, 8])
    np.testing.assert_array_equal(blur_pool(x, 3, strides=2, padding=1, border="zeros").ravel(), [4, 3, 7])


@pytest.mark.parametrize(("shape", "stride", "padding"), [((6, 5), 2, 0), ((7, 7), 2, 1), ((5,), 3, 1), ((4, 4), 1, 0)])
def test_max_blur_is_a_dense_maximum_that_is_blurred(shape: tuple[int, ...], stride: int, padding: int) -> None:
    x = np.random.default_rng(0).integers(-9, 0, (2, *shape, 1)).astype(np.float32)
    size = (1, *[3] * len(shape), 1)
    dense = ndimage.maximum_filter(x, size, mode="constant", cval=-100)
    if not padding:
        dense = dense[(slice(None), *[slice(1, -1)] * len(shape))]
    found = jax.jit(lambda x: max_blur_pool(x, 3, strides=stride, padding=padding))(x)
    np.testing.assert_allclose(found, blurred(dense, 3, stride, "mirror"), rtol=1e-6)


def test_max_blur_of_a_grid_no_larger_than_the_window_is_its_maximum() -> None:
    x = np.array([[1, 5], [3, 2]], np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(max_blur_pool(x, 2).ravel(), [5])


def test_shifts_change_less_than_without_the_blur() -> None:
    x = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.float32).reshape(1, 8, 1)  # the example of the paper's figure 3
    change = {}
    for name, pool in {"max": max_pool, "max_blur": max_blur_pool}.items():
        one, other = (pool(np.roll(x, shift, 1), 2) for shift in (0, 1))
        change[name] = float(jnp.abs(one[:, 1:-1] - other[:, 1:-1]).max())
    assert change["max"] == 1
    assert change["max_blur"] <= 0.5


def test_wrong_kernels_and_borders_are_refused() -> None:
    with pytest.raises(ValueError, match="positive size"):
        binomial_kernel(0)
    with pytest.raises(ValueError, match="reflect"):
        blur_pool(jnp.ones((1, 2, 1)), 5, strides=1)


def blurred_maxima(dense: np.ndarray, blur: int, strides: tuple[int, ...]) -> np.ndarray:
    """The maxima blurred with their mirror image past the border, and those at the strides."""
    for axis, stride in enumerate(strides, start=1):
        size = min(blur, 2 * dense.shape[axis] - 1)
        kernel = np.array(PASCAL[size]) / 2 ** (size - 1)
        dense = ndimage.correlate1d(dense, kernel, axis, mode="mirror", origin=-1 if size % 2 == 0 else 0)
        dense = np.take(dense, range(0, dense.shape[axis], stride), axis)
    return dense


@given(cases(), st.integers(1, 5))
def test_max_blur_and_its_gradient_are_those_of_loops(case: Case, blur: int) -> None:
    every = case._replace(strides=(1,) * len(case.window))
    dense = np.zeros(output_shape(every), np.float64)
    for at, inside, _ in positions(every):
        dense[at] = case.x[inside].max(case.axes)
    expected = blurred_maxima(dense, blur, case.strides)
    cotangent = np.random.default_rng(0).normal(size=expected.shape).astype(np.float32)
    basis = np.eye(dense[0].size).reshape(-1, *dense.shape[1:])
    matrix = blurred_maxima(basis, blur, case.strides).reshape(len(basis), -1)
    of_dense = (cotangent.reshape(len(dense), -1) @ matrix.T).reshape(dense.shape)
    of_x = np.zeros(case.x.shape)
    for at, inside, _ in positions(every):
        greatest = case.x[inside] == case.x[inside].max(case.axes, keepdims=True)
        share = np.expand_dims(of_dense[at], case.axes) / greatest.sum(case.axes, keepdims=True)
        of_x[inside] += np.where(greatest, share, 0)
    ((value, gradient),) = pulled_back(
        case, [functools.partial(max_blur_pool, window=case.window, blur=blur)], cotangent
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, of_x, rtol=1e-4, atol=1e-5)
