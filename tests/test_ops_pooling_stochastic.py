"""Stochastic pooling: how often each element is drawn, and its expectation against loops over windows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from cnnjax.ops.pooling import expected_stochastic_pool, stochastic_pool
from tests.pooling_cases import Case, cases, drawn_cotangent, positions, pulled_back


@given(cases(low=0, high=4))
def test_expectation_and_its_gradient(case: Case) -> None:
    cotangent = drawn_cotangent(case)
    ((value, gradient),) = pulled_back(
        case, [functools.partial(expected_stochastic_pool, window=case.window)], cotangent
    )
    expected = np.zeros(case.x.shape)
    for at, inside, _ in positions(case):
        seen = case.x[inside].astype(np.float64)
        total = seen.sum(case.axes, keepdims=True)
        safe = np.where(total, total, 1)
        mean = (seen * seen / safe).sum(case.axes, keepdims=True)
        np.testing.assert_allclose(value[at], mean.squeeze(case.axes), rtol=1e-5)
        slope = np.where(total, (2 * seen - mean) / safe, 0)
        expected[inside] += np.expand_dims(cotangent[at], case.axes) * slope
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@given(cases(low=-2, high=4))
def test_what_is_drawn_is_seen_and_positive_and_takes_the_gradient(case: Case) -> None:
    keys = jax.random.split(jax.random.key(1), len(case.x))
    distinct = np.where(case.x > 0, case.x + np.linspace(0, 0.5, case.x.size).reshape(case.x.shape), case.x)
    case = case._replace(x=distinct.astype(np.float32))
    cotangent = drawn_cotangent(case)
    ((drawn, gradient),) = pulled_back(
        case, [lambda x, **options: stochastic_pool(x, keys, case.window, **options)], cotangent
    )
    expected = np.zeros(case.x.shape)
    for at, inside, _ in positions(case):
        seen = case.x[inside]
        one = np.expand_dims(np.asarray(drawn[at]), case.axes)
        chosen = (seen == one) & (seen > 0)
        np.testing.assert_array_equal(chosen.sum(case.axes), (seen.max(case.axes) > 0))
        np.testing.assert_array_equal(drawn[at], np.where(chosen, seen, 0).sum(case.axes))
        expected[inside] += np.expand_dims(cotangent[at], case.axes) * chosen
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_frequencies_are_the_shares_of_the_window(dtype: str) -> None:
    draws = 8000
    window = np.array([[1, 0, 4], [2, 8, 1]])
    x = jnp.broadcast_to(jnp.asarray(window, dtype)[None, :, :, None], (draws, 2, 3, 1))
    keys = jax.random.split(jax.random.key(2), draws)
    found = np.asarray(jax.jit(lambda x: stochastic_pool(x, keys, (2, 3)))(x), np.float64).ravel()
    for value, probability in {0: 0, 1: 2 / 16, 2: 2 / 16, 4: 4 / 16, 8: 8 / 16}.items():
        standard_error = np.sqrt(probability * (1 - probability) / draws)
        assert abs(np.mean(found == value) - probability) <= 4 * standard_error
    mean = expected_stochastic_pool(x[:1].astype(jnp.float32), (2, 3)).item()
    assert abs(found.mean() - mean) < 4 * found.std() / np.sqrt(draws)


def test_positions_and_channels_draw_apart_and_examples_by_their_own_key() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (8, 6, 6, 4)).astype(np.float32)
    x = np.broadcast_to(x[:1], x.shape)
    keys = jax.random.split(jax.random.key(0), 8)
    pool = jax.jit(lambda x, keys: stochastic_pool(x, keys, 2))
    found = np.asarray(pool(x, keys))
    assert len({example.tobytes() for example in found}) == 8
    order = np.array([3, 1, 4, 0, 5, 2, 7, 6])
    np.testing.assert_array_equal(pool(x, keys[order]), found[order])
    alike = np.tile(np.array([[1, 2], [3, 4]], np.float32), (3, 3))[None, :, :, None].repeat(4, -1)
    draws = np.asarray(pool(alike, keys[:1])).reshape(9, 4)
    assert len({tuple(position) for position in draws}) > 1
    assert len({tuple(channel) for channel in draws.T}) > 1
