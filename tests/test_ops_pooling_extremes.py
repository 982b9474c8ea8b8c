"""Max pooling against loops over windows, its gradient at ties, and its borders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from cnnjax.ops.pooling import max_pool
from tests.pooling_cases import Case, cases, drawn_cotangent, positions, pulled_back


@given(cases())
def test_each_position_holds_the_greatest_it_sees_and_shares_its_gradient(case: Case) -> None:
    cotangent = drawn_cotangent(case)
    ((greatest, gradient),) = pulled_back(case, [functools.partial(max_pool, window=case.window)], cotangent)
    assert greatest.shape == cotangent.shape
    expected = np.zeros(case.x.shape)
    for at, inside, _ in positions(case):
        seen = case.x[inside]
        np.testing.assert_array_equal(greatest[at], seen.max(case.axes))
        ties = seen == seen.max(case.axes, keepdims=True)
        expected[inside] += np.expand_dims(cotangent[at], case.axes) * ties / ties.sum(case.axes, keepdims=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


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


def test_strides_are_the_window_unless_given() -> None:
    x = np.arange(7, dtype=np.float32).reshape(1, 7, 1)
    np.testing.assert_array_equal(max_pool(x, 3).ravel(), [2, 5])
    np.testing.assert_array_equal(max_pool(x, 3, strides=1).ravel(), [2, 3, 4, 5, 6])


def test_lowered_without_a_scatter_or_a_window_reduction() -> None:
    gradient = jax.grad(lambda x: max_pool(x, 3, strides=2, padding=1).sum())
    program = jax.jit(gradient).lower(jnp.ones((1, 6, 6, 1))).as_text()
    assert "scatter" not in program
    assert "reduce_window" not in program


@pytest.mark.parametrize("strides", [2, 1])
def test_members_are_pooled_and_differentiated_each_alone(strides: int) -> None:
    def value_and_gradient(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda x: jnp.sum(max_pool(x, 2, strides=strides) ** 2))(x)

    members = np.random.default_rng(0).integers(-3, 4, (3, 1, 4, 6, 2)).astype(np.float32)
    found = jax.jit(jax.vmap(value_and_gradient))(members)
    alone = [jax.jit(value_and_gradient)(member) for member in members]
    for batched, single in zip(found, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(batched, np.stack(single), rtol=1e-5)
