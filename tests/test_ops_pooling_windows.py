"""Sliding windows: what they see, what they refuse, and that every pooling of windows leaves the same grid."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from cnnjax.ops.pooling import (
    average_pool,
    blur_pool,
    distance_pool,
    expected_stochastic_pool,
    gaussian_pool,
    l2_pool,
    lp_norm_pool,
    lp_pool,
    max_blur_pool,
    max_pool,
    stochastic_pool,
    subsample,
)
from cnnjax.ops.pooling.windows import covered_weight, pooling_windows, relative_views, window_views
from tests.pooling_cases import Case, cases, output_shape, positions

KEYS = jax.random.split(jax.random.key(0), 1)
POOLS: dict[str, Callable[..., jax.Array]] = {
    "max": max_pool,
    "average": average_pool,
    "l2": l2_pool,
    "lp": functools.partial(lp_pool, order=3),
    "lp_norm": functools.partial(lp_norm_pool, order=3),
    "gaussian": gaussian_pool,
    "distance": distance_pool,
    "stochastic": lambda x, window, **options: stochastic_pool(x, KEYS, window, **options),
    "expected_stochastic": expected_stochastic_pool,
    "blur": blur_pool,
    "max_blur": max_blur_pool,
    "subsample": subsample,
}


@given(cases())
def test_padded_views_and_covered_weight_are_those_of_each_position(case: Case) -> None:
    windows = pooling_windows(case.x, case.window, case.strides, case.padding, exact=False)
    magnitudes = -case.x
    weights = [np.arange(1.0, k + 1) for k in case.window]
    whole = functools.reduce(np.multiply.outer, weights)
    covered = covered_weight(case.x.shape[1:-1], windows, weights)
    views, greatest = jax.jit(lambda magnitudes: relative_views(magnitudes, windows))(magnitudes)
    found = np.stack(views, axis=-1)
    for at, inside, part in positions(case):
        assert covered[at[1:]] == whole[part].sum()
        expected = np.zeros((len(case.x), *case.window, case.x.shape[-1]))
        expected[(slice(None), *part)] = magnitudes[inside] / magnitudes[inside].max(case.axes, keepdims=True)
        np.testing.assert_array_equal(greatest[at], magnitudes[inside].max(case.axes))
        np.testing.assert_allclose(found[at], np.moveaxis(expected.reshape(len(case.x), -1, expected.shape[-1]), 1, 2))
    assert output_shape(case) == greatest.shape


def test_views_take_the_offsets_of_the_window_in_order() -> None:
    x = np.arange(12).reshape(1, 3, 4, 1)
    views = window_views(x, (2, 2), (1, 2))
    np.testing.assert_array_equal(
        [view.squeeze() for view in views],
        [[[0, 2], [4, 6]], [[1, 3], [5, 7]], [[4, 6], [8, 10]], [[5, 7], [9, 11]]],
    )


@pytest.mark.parametrize("padding", ["valid", "same", "causal", 1, [(2, 0), (0, 1)]])
@pytest.mark.parametrize(("window", "strides"), [(3, None), (3, 2), (3, 1), (4, 3)])
def test_every_pool_leaves_the_same_positions(
    window: int, strides: int | None, padding: str | int | list[tuple[int, int]]
) -> None:
    x = jax.ShapeDtypeStruct((1, 9, 6, 2), jnp.float32)
    shapes = {
        name: jax.eval_shape(functools.partial(pool, window=window, strides=strides, padding=padding), x).shape
        for name, pool in POOLS.items()
    }
    if padding == "causal":
        del shapes["max_blur"]  # its windows slide at stride 1, which takes no other padding along the second dimension
    assert set(shapes.values()) == {shapes["max"]}


@pytest.mark.parametrize("name", POOLS)
def test_bfloat16_stays_bfloat16(name: str) -> None:
    x = jax.ShapeDtypeStruct((1, 6, 6, 2), jnp.bfloat16)
    assert jax.eval_shape(functools.partial(POOLS[name], window=3, strides=2, padding=1), x).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", POOLS)
def test_gradients_are_lowered_without_a_scatter_or_a_window_reduction(name: str) -> None:
    pool = functools.partial(POOLS[name], window=3, strides=2, padding=1)
    program = jax.jit(jax.grad(lambda x: pool(x).sum())).lower(jnp.ones((1, 6, 1))).as_text()
    assert not {"scatter", "reduce_window", "select_and_scatter"} & set(program.replace('"', ".").split("."))


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(
    ("window", "options", "says"),
    [
        (3, {"padding": 3}, "nothing but padding"),
        ((3, 1), {"padding": [(1, 1), (0, 1)]}, "nothing but padding"),
        (5, {"padding": "valid"}, "does not fit"),
        (0, {"padding": "valid"}, "the window must be"),
        ((2, 2, 2), {"padding": "valid"}, "the window must be"),
        (2, {"strides": 0}, "(strides|window) must be"),
        (2, {"padding": "circular"}, "valid, same"),
    ],
)
def test_wrong_windows_are_refused(
    name: str, window: int | tuple[int, ...], options: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(lambda x: POOLS[name](x, window, **options), jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32))


@pytest.mark.parametrize("name", POOLS)
def test_windows_that_leave_a_rest_are_refused_where_exactness_is_asked_for(name: str) -> None:
    pool = functools.partial(POOLS[name], window=2, strides=2, padding="valid")
    uneven, even = (jax.ShapeDtypeStruct((1, size, 4, 1), jnp.float32) for size in (5, 6))
    assert jax.eval_shape(pool, uneven).shape == (1, 2, 2, 1)
    assert jax.eval_shape(functools.partial(pool, exact=True), even).shape == (1, 3, 2, 1)
    with pytest.raises(ValueError, match=r"\(5 - 2 \+ 0 \+ 0\) / 2 \+ 1 = 2.5 positions are no whole"):
        jax.eval_shape(functools.partial(pool, exact=True), uneven)
