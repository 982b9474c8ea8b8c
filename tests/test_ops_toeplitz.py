"""Correlation as an explicit sparse matrix, against loops and SciPy's Toeplitz matrices."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.toeplitz import toeplitz_matrix


class Case(NamedTuple):
    """A correlation of small whole numbers, whose sums are exact in float32, and its gradients, all by loops."""

    x: np.ndarray
    kernel: np.ndarray
    settings: dict[str, Any]
    output: np.ndarray
    weights: np.ndarray
    x_gradient: np.ndarray
    kernel_gradient: np.ndarray


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def resolved(padding: Any, spatial: tuple[int, ...], extents: list[int], strides: tuple[int, ...]) -> Any:
    """Pairs of padding; same: ceil(size / stride) positions, the odd element after."""
    if padding == "same":
        sizes = zip(spatial, extents, strides, strict=True)
        totals = [max((math.ceil(size / s) - 1) * s + extent - size, 0) for size, extent, s in sizes]
        return [(total // 2, math.ceil(total / 2)) for total in totals]
    return [(0, 0)] * len(spatial) if padding == "valid" else padding


def by_loops(
    x: np.ndarray,
    kernel: np.ndarray,
    strides: tuple[int, ...],
    padding: Any,
    dilation: Any,
    only: tuple[int, ...] | None = None,
) -> Case:
    """a[n, i, f] = sum over m, c of x[n, s i + d m, c] kernel[m, c, f], term by term with both derivatives of each.

    The gradients are those of the weighted sum of the output: at all positions, or at one alone.
    """
    spatial, window = x.shape[1:-1], kernel.shape[:-2]
    extents = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    pads = resolved(padding, spatial, extents, strides)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    along = zip(padded.shape[1:-1], extents, strides, strict=True)
    positions = [len(range(0, size - extent + 1, s)) for size, extent, s in along]
    output = np.zeros((len(x), *positions, kernel.shape[-1]), np.float32)
    weights = whole_numbers(7, *output.shape)
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for i, m in itertools.product(np.ndindex(*positions), np.ndindex(*window)):
        site = (slice(None), *(s * p + d * q for s, p, d, q in zip(strides, i, dilation, m, strict=True)))
        position = (slice(None), *i)
        output[position] += padded[site] @ kernel[m]
        if only not in (None, i):
            continue
        of_padded[site] += weights[position] @ kernel[m].T
        of_kernel[m] += padded[site].T @ weights[position]
    inner = (slice(None), *(slice(before, before + size) for (before, _), size in zip(pads, spatial, strict=True)))
    choice = {"strides": strides, "padding": padding, "dilation": dilation}
    return Case(x, kernel, choice, output, weights, of_padded[inner], of_kernel)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dimensions = draw(st.integers(1, 3))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(least, most), min_size=dimensions, max_size=dimensions)))

    window, strides, dilation, room = each(1, 2 if dimensions == 3 else 3), each(1, 3), each(1, 2), each(0, 3)
    pairs = list(zip(each(0, 2), each(0, 2), strict=True))
    padding = draw(st.sampled_from(["valid", "same", pairs]))
    spatial = [d * (k - 1) + 1 + more for k, d, more in zip(window, dilation, room, strict=True)]
    batch, channels, features, seed = (draw(st.integers(1, most)) for most in (2, 3, 3, 999))
    x, kernel = whole_numbers(seed, batch, *spatial, channels), whole_numbers(seed + 1, *window, channels, features)
    return by_loops(x, kernel, strides, padding, dilation)


@given(cases())
def test_the_product_and_its_gradients_are_those_of_the_correlation(case: Case) -> None:
    @jax.jit
    def found(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        def multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
            matrix = toeplitz_matrix(kernel, x.shape[1:-1], **case.settings)
            return (matrix @ x.reshape(len(x), -1).T).T.reshape(case.output.shape)

        value, back = jax.vjp(multiply, x, kernel)
        return value, back(case.weights)

    value, (of_x, of_kernel) = found(case.x, case.kernel)
    np.testing.assert_array_equal(value, case.output)
    np.testing.assert_array_equal(of_x, case.x_gradient)
    np.testing.assert_array_equal(of_kernel, case.kernel_gradient)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_one_dimension_is_the_toeplitz_matrix_of_the_lectures(padding: int) -> None:
    kernel = np.array([1.0, 2.0, 3.0], np.float32)
    found = toeplitz_matrix(kernel[:, None, None], (6,), padding=padding).todense()
    u, v = np.zeros(6), np.zeros(4 + 2 * padding)
    u[: 3 - padding] = kernel[padding:]
    v[: padding + 1] = kernel[padding::-1]
    np.testing.assert_array_equal(found, scipy.linalg.toeplitz(v, u))


def test_two_dimensions_are_a_toeplitz_matrix_of_toeplitz_blocks() -> None:
    kernel = whole_numbers(0, 3, 2)
    found = toeplitz_matrix(kernel[:, :, None, None], (5, 4)).todense()
    blocks = [scipy.linalg.toeplitz([row[0], 0, 0], [*row, 0, 0]) for row in kernel]
    expected = sum(np.kron(np.eye(3, 5, k=m), block) for m, block in enumerate(blocks))
    np.testing.assert_array_equal(found, expected)


def test_only_weights_that_meet_the_input_are_stored_in_order() -> None:
    matrix = toeplitz_matrix(jnp.ones((3, 3, 2, 4)), (5, 6), padding="same")
    assert matrix.shape == (30 * 4, 30 * 2)
    assert matrix.nse == (3 * 5 - 2) * (3 * 6 - 2) * 2 * 4
    flat = np.ravel_multi_index(tuple(np.asarray(matrix.indices).T), matrix.shape)
    assert np.all(np.diff(flat) > 0)


def test_windows_on_padding_alone_give_an_empty_matrix() -> None:
    matrix = toeplitz_matrix(jnp.ones((1, 1, 1)), (1,), padding=1, strides=3)
    assert matrix.nse == 0
    np.testing.assert_array_equal(matrix @ jnp.ones(1), [0.0])


@pytest.mark.parametrize(
    ("kernel", "spatial", "options", "says"),
    [
        ((3, 1, 1), (5, 5), {}, "the window must be a positive number, or 2 of them; given"),
        ((3, 1, 1), (5,), {"strides": (1, 1)}, "strides"),
        ((3, 1, 1), (5,), {"dilation": 0}, "dilation"),
        ((3, 1, 1), (5,), {"padding": "valdi"}, "padding must be"),
        ((3, 1, 1), (2,), {}, "a window of 3 does not fit in 2"),
    ],
)
def test_wrong_settings_are_refused(
    kernel: tuple[int, ...], spatial: tuple[int, ...], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        toeplitz_matrix(jnp.ones(kernel), spatial, **options)
