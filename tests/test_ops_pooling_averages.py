"""Averages and Lp norms against loops over windows, and their gradients where every element is zero."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.pooling import average_pool, l2_pool, lp_norm_pool, lp_pool
from tests.pooling_cases import Case, cases, drawn_cotangent, positions, pulled_back


@given(cases(low=-1, high=3), st.sampled_from([1, 2, 2.5, 4]))
def test_each_position_averages_what_it_sees(case: Case, order: float) -> None:
    cotangent = drawn_cotangent(case)
    pools = [functools.partial(average_pool, window=case.window)]
    pools += [functools.partial(pool, window=case.window, order=order) for pool in (lp_pool, lp_norm_pool)]
    (mean, of_mean), *norms = pulled_back(case, pools, cotangent)
    expected_mean = np.zeros(case.x.shape)
    expected = [np.zeros(case.x.shape) for _ in norms]
    for at, inside, _ in positions(case):
        seen, weight = case.x[inside].astype(np.float64), np.expand_dims(cotangent[at], case.axes)
        count = np.prod(seen.shape[1:-1])
        np.testing.assert_allclose(mean[at], seen.mean(case.axes), rtol=1e-5, atol=1e-6)
        expected_mean[inside] += weight / count
        for (value, _), total, share in zip(norms, expected, (count, 1), strict=True):
            norm = (np.sum(np.abs(seen) ** order, case.axes, keepdims=True) / share) ** (1 / order)
            np.testing.assert_allclose(value[at], norm.squeeze(case.axes), rtol=1e-5)
            steepness = np.sign(seen) * np.abs(seen) ** (order - 1) / share / np.where(norm, norm, 1) ** (order - 1)
            total[inside] += weight * np.where(norm, steepness, 0)
    np.testing.assert_allclose(of_mean, expected_mean, rtol=1e-4, atol=1e-5)
    for (_, gradient), total in zip(norms, expected, strict=True):
        np.testing.assert_allclose(gradient, total, rtol=1e-4, atol=1e-5)


def test_mean_of_a_constant_is_that_constant_at_the_border_too() -> None:
    x = np.full((1, 5, 5, 1), 7.0, np.float32)
    for pool in (average_pool, l2_pool):
        found = jax.jit(functools.partial(pool, window=3, strides=1, padding="same"))(x)
        np.testing.assert_allclose(found, x, rtol=1e-6)


def test_l2_is_the_root_of_the_mean_square_and_the_norm_that_of_the_sum() -> None:
    x = np.array([3, 4, 0, 0, -6, 8], np.float32).reshape(1, 6, 1)
    np.testing.assert_allclose(l2_pool(x, 2).ravel(), np.array([5, 0, 10]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(lp_norm_pool(x, 2, 2).ravel(), [5, 0, 10], rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 1.5])
def test_gradient_is_zero_where_the_window_holds_nothing_but_zeros(order: float) -> None:
    x = np.array([0, 0, 3, 4], np.float32).reshape(1, 4, 1)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: lp_norm_pool(x, 2, order).sum()))(x)
    norm = (3**order + 4**order) ** (1 / order)
    np.testing.assert_allclose(value, norm, rtol=1e-6)
    np.testing.assert_allclose(gradient.ravel(), [0, 0, *(np.array([3, 4]) / norm) ** (order - 1)], rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_powers_neither_vanish_nor_overflow(scale: float) -> None:
    x = np.array([3, 4], np.float32).reshape(1, 2, 1) * np.float32(scale)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: lp_norm_pool(x, 2, 2).sum()))(x)
    np.testing.assert_allclose(value, 5 * scale, rtol=1e-6)
    np.testing.assert_allclose(gradient.ravel(), [0.6, 0.8], rtol=1e-6)


def test_strides_are_the_window_unless_given() -> None:
    x = np.arange(7, dtype=np.float32).reshape(1, 7, 1)
    np.testing.assert_array_equal(average_pool(x, 3).ravel(), [1, 4])
    np.testing.assert_array_equal(average_pool(x, 3, strides=2).ravel(), [1, 3, 5])


@pytest.mark.parametrize("order", [0, 0.5, -1, float("inf"), float("nan")])
def test_wrong_orders_are_refused(order: float) -> None:
    for pool in (lp_pool, lp_norm_pool):
        with pytest.raises(ValueError, match="at least 1"):
            pool(jnp.ones((1, 4, 1)), 2, order)
