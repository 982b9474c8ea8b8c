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

from cnnjax.ops.toeplitz import constant_term, toeplitz_matrix


class Case(NamedTuple):
    """A correlation of small whole numbers, whose sums are exact in float32, and its gradients, all by loops.

    `settings` are those of the linear map; `fill` is the constant of its border.
    """

    x: np.ndarray
    kernel: np.ndarray
    settings: dict[str, Any]
    fill: float
    output: np.ndarray
    weights: np.ndarray
    x_gradient: np.ndarray
    kernel_gradient: np.ndarray


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def resolved(padding: Any, spatial: tuple[int, ...], extents: list[int], strides: tuple[int, ...]) -> Any:
    """Pairs of padding; same: ceil(size / stride) positions, the odd element after; causal: all before along time."""
    if padding in ("same", "causal"):
        sizes = zip(spatial, extents, strides, strict=True)
        totals = [max((math.ceil(size / s) - 1) * s + extent - size, 0) for size, extent, s in sizes]
        same = [(total // 2, math.ceil(total / 2)) for total in totals]
        return [(extents[0] - 1, 0), *same[1:]] if padding == "causal" else same
    return [(0, 0)] * len(spatial) if padding == "valid" else padding


def held_at(place: int, size: int, border: str) -> int | None:
    """Which of `size` elements stands at a place, counted from the first of them; None for a constant."""
    if border == "circular":
        return place % size
    if border == "reflect":
        return size - 1 - abs(size - 1 - abs(place))
    return place if 0 <= place < size else None


def by_loops(
    x: np.ndarray,
    kernel: np.ndarray,
    strides: tuple[int, ...],
    padding: Any,
    dilation: Any,
    groups: int = 1,
    border: str = "zeros",
    fill: float = 0.0,
    only: tuple[int, ...] | None = None,
) -> Case:
    """a[n, i, f] = sum over m, c of x[n, s i + d m, c] kernel[m, c, f], term by term with both derivatives of each.

    The gradients are those of the weighted sum of the output: at all positions, or at one alone.
    """
    spatial, window = x.shape[1:-1], kernel.shape[:-2]
    extents = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    pads = resolved(padding, spatial, extents, strides)
    along = zip(spatial, pads, extents, strides, strict=True)
    positions = [len(range(0, size + sum(pad) - extent + 1, s)) for size, pad, extent, s in along]
    output = np.zeros((len(x), *positions, kernel.shape[-1]), np.float32)
    weights = whole_numbers(7, *output.shape)
    of_x, of_kernel = np.zeros_like(x), np.zeros_like(kernel)
    seen, own = x.shape[-1] // groups, kernel.shape[-1] // groups
    for i, m, g in itertools.product(np.ndindex(*positions), np.ndindex(*window), range(groups)):
        places = [s * p + d * q - pad[0] for s, p, d, q, pad in zip(strides, i, dilation, m, pads, strict=True)]
        held = [held_at(place, size, border) for place, size in zip(places, spatial, strict=True)]
        channels, features = slice(g * seen, (g + 1) * seen), slice(g * own, (g + 1) * own)
        site, position = (slice(None), *held, channels), (slice(None), *i, features)
        inside = None not in held
        values = x[site] if inside else np.full((len(x), seen), fill, np.float32)
        output[position] += values @ kernel[(*m, slice(None), features)]
        if only not in (None, i):
            continue
        of_kernel[(*m, slice(None), features)] += values.T @ weights[position]
        if inside:
            of_x[site] += weights[position] @ kernel[(*m, slice(None), features)].T
    choice = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups, "border": border}
    return Case(x, kernel, choice, fill, output, weights, of_x, of_kernel)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dimensions = draw(st.integers(1, 3))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(least, most), min_size=dimensions, max_size=dimensions)))

    window, strides, dilation, room = each(1, 2 if dimensions == 3 else 3), each(1, 3), each(1, 2), each(0, 3)
    pairs = list(zip(each(0, 2), each(0, 2), strict=True))
    padding = draw(st.sampled_from(["valid", "same", "causal", pairs]))
    spatial = [d * (k - 1) + 1 + more for k, d, more in zip(window, dilation, room, strict=True)]
    border, fill = draw(st.sampled_from([("zeros", 0.0), ("zeros", 2.0), ("reflect", 0.0), ("circular", 0.0)]))
    if border == "reflect":  # it needs an element more than it mirrors
        spatial = [size + 4 for size in spatial]
    batch, channels, features, groups, seed = (draw(st.integers(1, most)) for most in (2, 2, 2, 2, 999))
    x = whole_numbers(seed, batch, *spatial, channels * groups)
    kernel = whole_numbers(seed + 1, *window, channels, features * groups)
    return by_loops(x, kernel, strides, padding, dilation, groups, border, fill)


def constant_of(case: Case, kernel: jax.Array) -> jax.Array:
    """What a border of a constant adds to the linear map."""
    placement = {name: case.settings[name] for name in ("strides", "padding", "dilation")}
    return constant_term(kernel, case.x.shape[1:-1], case.fill, **placement)


@given(cases())
def test_the_product_and_its_gradients_are_those_of_the_correlation(case: Case) -> None:
    @jax.jit
    def found(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        def multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
            matrix = toeplitz_matrix(kernel, x.shape[1:-1], **case.settings)
            return (matrix @ x.reshape(len(x), -1).T).T.reshape(case.output.shape) + constant_of(case, kernel)

        value, back = jax.vjp(multiply, x, kernel)
        return value, back(case.weights)

    value, (of_x, of_kernel) = found(case.x, case.kernel)
    np.testing.assert_array_equal(value, case.output)
    np.testing.assert_array_equal(of_x, case.x_gradient)
    np.testing.assert_array_equal(of_kernel, case.kernel_gradient)


def test_on_a_ring_it_is_circulant() -> None:
    kernel = whole_numbers(0, 3)
    found = toeplitz_matrix(kernel[:, None, None], (5,), padding="same", border="circular").todense()
    row = np.zeros(5)
    row[[4, 0, 1]] = kernel
    np.testing.assert_array_equal(found, scipy.linalg.circulant(row).T)


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
        ((3, 1, 3), (5,), {"groups": 2}, "2 groups must divide 3 features"),
        ((3, 1, 1), (5,), {"border": "mirror"}, "unknown border 'mirror'"),
        ((3, 1, 1), (3,), {"padding": 3, "border": "reflect"}, "not enough elements to reflect"),
    ],
)
def test_wrong_settings_are_refused(
    kernel: tuple[int, ...], spatial: tuple[int, ...], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        toeplitz_matrix(jnp.ones(kernel), spatial, **options)
