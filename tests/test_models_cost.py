"""Multiply-adds against the formulas for convolution and matrix product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models.cost import multiply_adds
from cnnjax.ops.convolution import correlate


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.float32)


@pytest.mark.parametrize("lowering", ["xla", "patches", "rows"])
@pytest.mark.parametrize(
    ("x", "kernel", "options", "positions"),
    [
        ((2, 28, 28, 3), (5, 5, 3, 8), {"padding": "same"}, 28 * 28),
        ((2, 28, 28, 3), (5, 5, 3, 8), {}, 24 * 24),
        ((2, 20, 3), (4, 3, 8), {"strides": 3, "dilation": 2}, 5),
        ((2, 6, 7, 8, 3), (1, 2, 3, 3, 8), {"strides": (1, 2, 3), "padding": 1}, 8 * 4 * 3),
    ],
)
def test_convolution(
    x: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, object], positions: int, lowering: str
) -> None:
    found = multiply_adds(lambda x, k: correlate(x, k, lowering=lowering, **options), array(*x), array(*kernel))
    assert found == x[0] * positions * np.prod(kernel)


def test_grouped_convolution_of_xla() -> None:
    def depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=x.shape[-1]
        )

    assert multiply_adds(depthwise, array(1, 10, 10, 6), array(3, 3, 1, 6)) == 10 * 10 * 3 * 3 * 6


@pytest.mark.parametrize(
    ("equation", "left", "right", "expected"),
    [("ij,jk->ik", (4, 5), (5, 6), 4 * 5 * 6), ("bij,bjk->bik", (3, 4, 5), (3, 5, 6), 3 * 4 * 5 * 6)],
)
def test_matrix_product(equation: str, left: tuple[int, ...], right: tuple[int, ...], expected: int) -> None:
    assert multiply_adds(lambda a, b: jnp.einsum(equation, a, b), array(*left), array(*right)) == expected


def test_loops_and_calls_count_what_they_run() -> None:
    @jax.jit
    def seven_times(matrix: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (jnp.tanh(matrix @ x), None), x, length=7)[0]

    assert multiply_adds(seven_times, array(4, 4), array(4)) == 7 * 4 * 4


def test_elementwise_work_is_not_counted() -> None:
    assert multiply_adds(lambda x: jnp.maximum(x * x + x, 0).sum(), array(100)) == 0
