"""Pooling against loops over windows, its gradients at ties, and its borders."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.ops.pooling import average_pool, max_pool

GRADIENT_OF_MAX = jax.jit(jax.grad(lambda x: max_pool(x, 3).sum()))


class Case(NamedTuple):
    """An input below 0, so that a border of zeros would win, and how the window slides."""

    x: np.ndarray
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dimensions = draw(st.integers(1, 3))

    def each(most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(1, most), min_size=dimensions, max_size=dimensions)))

    window, strides, more = each(3), each(3), each(3)
    padding = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in window)
    spatial = [k + extra for k, extra in zip(window, more, strict=True)]
    shape = (draw(st.integers(1, 2)), *spatial, draw(st.integers(1, 2)))
    values = np.random.default_rng(draw(st.integers(0, 999))).permutation(int(np.prod(shape)))
    return Case(-1 - values.reshape(shape).astype(np.float32), window, strides, padding)


def windows(case: Case) -> list[np.ndarray]:
    """What each position sees, without the padding: [N, seen, C], in the order of the positions."""
    starts = [
        range(-before, size + after - k + 1, s)
        for size, k, s, (before, after) in zip(case.x.shape[1:-1], case.window, case.strides, case.padding, strict=True)
    ]
    seen = []
    for corner in itertools.product(*starts):
        inside = tuple(slice(max(c, 0), c + k) for c, k in zip(corner, case.window, strict=True))
        part = case.x[(slice(None), *inside)]
        seen.append(part.reshape(len(part), -1, part.shape[-1]))
    return seen


def pooled_both(case: Case, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    options = {"strides": case.strides, "padding": case.padding}
    return max_pool(x, case.window, **options), average_pool(x, case.window, **options)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(cases())
def test_each_position_summarises_what_it_sees(case: Case) -> None:
    greatest, mean = jax.jit(lambda x: pooled_both(case, x))(case.x)
    seen = windows(case)
    positions = np.prod(greatest.shape[1:-1])
    assert positions == len(seen)
    flat = (len(case.x), len(seen), case.x.shape[-1])
    np.testing.assert_array_equal(greatest.reshape(flat), np.stack([s.max(axis=1) for s in seen], axis=1))
    np.testing.assert_allclose(mean.reshape(flat), np.stack([s.mean(axis=1) for s in seen], 1), rtol=1e-5)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(cases())
def test_gradients_reach_the_greatest_or_are_spread_evenly(case: Case) -> None:
    def gradients(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        greatest, mean = jax.vjp(lambda x: pooled_both(case, x), x)[1], pooled_both(case, x)
        ones, zeros = jax.tree.map(jnp.ones_like, mean), jax.tree.map(jnp.zeros_like, mean)
        return greatest((ones[0], zeros[1]))[0], greatest((zeros[0], ones[1]))[0]

    of_max, of_mean = jax.jit(gradients)(case.x)
    expected_max, expected_mean = np.zeros(case.x.shape), np.zeros(case.x.shape)
    for seen in windows(case):  # all values differ, so a value names its element
        for n, c in np.ndindex(len(case.x), case.x.shape[-1]):
            example = case.x[n, ..., c]
            expected_max[n, ..., c] += example == seen[n, :, c].max()
            expected_mean[n, ..., c] += np.isin(example, seen[n, :, c]) / seen.shape[1]
    np.testing.assert_array_equal(of_max, expected_max)
    np.testing.assert_allclose(of_mean, expected_mean, atol=1e-5)


def test_two_by_two_tie_is_shared_equally() -> None:
    gradient = jax.grad(lambda x: max_pool(x, 2).sum())(jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(gradient, np.full((1, 4, 4, 1), 0.25))


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.lists(st.integers(-1, 1), min_size=9, max_size=9))
def test_tie_is_shared_among_the_greatest_alone(values: list[int]) -> None:
    x = np.asarray(values, np.float32).reshape(1, 3, 3, 1)
    gradient = np.asarray(GRADIENT_OF_MAX(x))
    np.testing.assert_array_equal(gradient > 0, x == x.max())
    np.testing.assert_array_equal(gradient >= 0, np.ones_like(x, bool))
    np.testing.assert_allclose(gradient.sum(), 1.0, rtol=1e-6)


@pytest.mark.parametrize("padding", ["same", 1])
@pytest.mark.parametrize("value", [-5, -128])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_padding_never_wins(padding: str | int, value: int, dtype: str) -> None:
    pool = jax.jit(lambda x: max_pool(x, 3, strides=2, padding=padding))
    found = pool(jnp.full((1, 5, 5, 2), value, dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(np.asarray(found, np.float32), np.full((1, 3, 3, 2), value))


def test_padding_takes_no_gradient_away() -> None:
    gradient = jax.grad(lambda x: max_pool(x, 3, strides=2, padding=1).sum())(jnp.full((1, 5, 1), -2.0))
    np.testing.assert_allclose(gradient.sum(), 3.0)
    assert np.isfinite(gradient).all()


def test_mean_of_a_constant_is_that_constant_at_the_border_too() -> None:
    found = average_pool(jnp.full((1, 5, 5, 1), 7.0), 3, strides=1, padding="same")
    np.testing.assert_allclose(found, np.full((1, 5, 5, 1), 7.0), rtol=1e-6)


def test_strides_are_the_window_unless_given() -> None:
    x = jnp.arange(7.0).reshape(1, 7, 1)
    np.testing.assert_array_equal(max_pool(x, 3).ravel(), [2, 5])
    np.testing.assert_array_equal(average_pool(x, 3).ravel(), [1, 4])
    np.testing.assert_array_equal(max_pool(x, 3, strides=1).ravel(), [2, 3, 4, 5, 6])


def test_members_and_tangents() -> None:
    x = jnp.asarray(np.random.default_rng(0).permutation(24).reshape(3, 1, 8, 1), jnp.float32)
    np.testing.assert_array_equal(jax.vmap(lambda x: max_pool(x, 2))(x)[2], max_pool(x[2], 2))
    value, tangent = jax.jvp(lambda x: average_pool(x, 2), (x[0],), (x[1],))
    np.testing.assert_allclose(value, x[0].reshape(1, 4, 2, 1).mean(2))
    np.testing.assert_allclose(tangent, x[1].reshape(1, 4, 2, 1).mean(2))


@pytest.mark.parametrize("pool", [max_pool, average_pool])
@pytest.mark.parametrize(
    ("window", "options", "says"),
    [
        (3, {"padding": 3}, "nothing but padding"),
        ((3, 1), {"padding": [(1, 1), (0, 1)]}, "nothing but padding"),
        (5, {}, "does not fit"),
        (0, {}, "the pooling window must be"),
        ((2, 2, 2), {}, "the pooling window must be"),
        (2, {"strides": 0}, "strides must be"),
        (2, {"padding": "full"}, "valid, same"),
    ],
)
def test_wrong_windows_are_refused(
    pool: object, window: int | tuple[int, ...], options: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        pool(jnp.ones((1, 4, 4, 1)), window, **options)  # type: ignore[operator]
