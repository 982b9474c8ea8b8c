"""Pooling against loops over windows, its gradients at ties, and its borders."""

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.ops.pooling import average_pool, max_pool


class Case(NamedTuple):
    """An input below 0, so that a border of zeros would win, with many ties, and how the window slides."""

    x: np.ndarray
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dimensions = draw(st.integers(1, 3))

    def each(most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(1, most), min_size=dimensions, max_size=dimensions)))

    window, more = each(3), each(3)
    strides = draw(st.sampled_from([window, each(3)]))
    padding = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in window)
    spatial = [k + extra for k, extra in zip(window, more, strict=True)]
    shape = (draw(st.integers(1, 2)), *spatial, draw(st.integers(1, 2)))
    values = np.random.default_rng(draw(st.integers(0, 999))).integers(-4, 0, shape)
    return Case(values.astype(np.float32), window, strides, padding)


def windows(case: Case) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each position, and what of the input it sees."""
    starts = [
        range(-before, size + after - k + 1, s)
        for size, k, s, (before, after) in zip(case.x.shape[1:-1], case.window, case.strides, case.padding, strict=True)
    ]
    for position in itertools.product(*(range(len(axis)) for axis in starts)):
        corner = [axis[i] for axis, i in zip(starts, position, strict=True)]
        yield position, tuple(slice(max(c, 0), c + k) for c, k in zip(corner, case.window, strict=True))


@settings(deadline=None, max_examples=18, derandomize=True)
@given(cases())
def test_each_position_summarises_what_it_sees_and_shares_its_gradient(case: Case) -> None:
    options = {"strides": case.strides, "padding": case.padding}
    positions = tuple(index + 1 for index in list(windows(case))[-1][0])
    weights = np.random.default_rng(0).normal(size=(len(case.x), *positions, case.x.shape[-1])).astype(np.float32)

    @jax.jit
    def value_and_gradient(x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        functions = [functools.partial(pool, window=case.window, **options) for pool in (max_pool, average_pool)]
        pulled = (jax.vjp(function, x) for function in functions)
        return [(value, back(weights)[0]) for value, back in pulled]

    (greatest, of_greatest), (mean, of_mean) = value_and_gradient(case.x)
    assert greatest.shape == mean.shape == weights.shape
    expected_greatest, expected_mean = np.zeros(case.x.shape), np.zeros(case.x.shape)
    axes = tuple(range(1, case.x.ndim - 1))
    for position, inside in windows(case):
        at, seen = (slice(None), *position), (slice(None), *inside)
        part, weight = case.x[seen], np.expand_dims(weights[at], axes)
        np.testing.assert_array_equal(greatest[at], part.max(axes))
        np.testing.assert_allclose(mean[at], part.mean(axes), rtol=1e-5)
        ties = part == part.max(axes, keepdims=True)
        expected_greatest[seen] += weight * ties / ties.sum(axes, keepdims=True)
        expected_mean[seen] += weight / np.prod(part.shape[1:-1])
    np.testing.assert_allclose(of_greatest, expected_greatest, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_mean, expected_mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [2, 1])
def test_forward_derivative_at_a_tie_is_the_mean_over_the_greatest(strides: int) -> None:
    x = np.array([1, 5, 5, 2, 5, 5, 0, 0], np.float32).reshape(1, 8, 1)
    tangent = np.arange(8, dtype=np.float32).reshape(1, 8, 1)
    _, found = jax.jvp(jax.jit(lambda x: max_pool(x, 2, strides=strides)), (x,), (tangent,))
    pairs = [[1], [1, 2], [2], [4], [4, 5], [5], [6, 7]][::strides]
    np.testing.assert_allclose(found.ravel(), [np.mean(pair) for pair in pairs])


@pytest.mark.parametrize("padding", ["same", 1])
@pytest.mark.parametrize("value", [-5, -128])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_padding_never_wins(padding: str | int, value: int, dtype: str) -> None:
    pool = jax.jit(lambda x: max_pool(x, 3, strides=2, padding=padding))
    found = pool(jnp.full((1, 5, 5, 2), value, dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(np.asarray(found, np.float32), np.full((1, 3, 3, 2), value))


def test_padding_takes_no_gradient_away() -> None:
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, 3, strides=2, padding=1).sum()))(np.full((1, 5, 1), -2.0))
    np.testing.assert_allclose(gradient.ravel(), [1 / 2, 1 / 2 + 1 / 3, 1 / 3, 1 / 3 + 1 / 2, 1 / 2], rtol=1e-6)


def test_mean_of_a_constant_is_that_constant_at_the_border_too() -> None:
    x = np.full((1, 5, 5, 1), 7.0, np.float32)
    found = jax.jit(lambda x: average_pool(x, 3, strides=1, padding="same"))(x)
    np.testing.assert_allclose(found, x, rtol=1e-6)


def test_strides_are_the_window_unless_given() -> None:
    x = np.arange(7, dtype=np.float32).reshape(1, 7, 1)
    np.testing.assert_array_equal(max_pool(x, 3).ravel(), [2, 5])
    np.testing.assert_array_equal(average_pool(x, 3).ravel(), [1, 4])
    np.testing.assert_array_equal(max_pool(x, 3, strides=1).ravel(), [2, 3, 4, 5, 6])


@pytest.mark.parametrize("strides", [2, 1])
def test_members_are_pooled_and_differentiated_each_alone(strides: int) -> None:
    def value_and_gradient(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda x: jnp.sum(max_pool(x, 2, strides=strides) ** 2))(x)

    members = np.random.default_rng(0).integers(-3, 4, (3, 1, 4, 6, 2)).astype(np.float32)
    found = jax.jit(jax.vmap(value_and_gradient))(members)
    alone = [jax.jit(value_and_gradient)(member) for member in members]
    for batched, single in zip(found, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(batched, np.stack(single), rtol=1e-5)


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
