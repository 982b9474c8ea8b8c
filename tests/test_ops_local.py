"""Unshared correlation and the embedding in a dense matrix, against loops and SciPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given

from cnnjax.ops.local import correlate_unshared, embed_in_dense, unshare
from tests.test_ops_toeplitz import Case, by_loops, cases, constant_of, whole_numbers


def unshared_by_loops(case: Case, kernels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Output and gradients, from one shared correlation for each position, of which that position alone is kept."""
    output, of_x, of_kernels = np.zeros_like(case.output), np.zeros_like(case.x), np.zeros_like(kernels)
    for i in np.ndindex(case.output.shape[1:-1]):
        position = (slice(None), *i)
        alone = by_loops(case.x, kernels[i], **case.settings, fill=case.fill, only=i)
        output[position] = alone.output[position]
        of_x += alone.x_gradient
        of_kernels[i] = alone.kernel_gradient
    return output, of_x, of_kernels


def unshared(x: jax.Array, kernels: jax.Array, case: Case) -> jax.Array:
    return correlate_unshared(x, kernels, **case.settings, fill=case.fill)


@given(cases())
def test_each_position_has_a_kernel_of_its_own(case: Case) -> None:
    kernels = whole_numbers(3, *case.output.shape[1:-1], *case.kernel.shape)

    @jax.jit
    def found(x: jax.Array, kernels: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        value, back = jax.vjp(lambda x, kernels: unshared(x, kernels, case), x, kernels)
        return value, back(case.weights)

    output, of_x, of_kernels = unshared_by_loops(case, kernels)
    value, gradients = found(case.x, kernels)
    np.testing.assert_array_equal(value, output)
    np.testing.assert_array_equal(gradients[0], of_x)
    np.testing.assert_array_equal(gradients[1], of_kernels)


@given(cases())
def test_repeated_or_embedded_kernel_is_the_correlation(case: Case) -> None:
    def local(kernel: jax.Array) -> jax.Array:
        return unshared(case.x, unshare(kernel, case.output.shape[1:-1]), case)

    def dense(kernel: jax.Array) -> jax.Array:
        matrix = embed_in_dense(kernel, case.x.shape[1:-1], **case.settings)
        return (case.x.reshape(len(case.x), -1) @ matrix).reshape(case.output.shape) + constant_of(case, kernel)

    @jax.jit
    def found(kernel: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        pulled = (jax.vjp(layer, kernel) for layer in (local, dense))
        return [(value, back(case.weights)[0]) for value, back in pulled]

    for value, of_kernel in found(case.kernel):
        np.testing.assert_array_equal(value, case.output)
        np.testing.assert_array_equal(of_kernel, case.kernel_gradient)


def test_embedding_is_the_correlation_of_signal_processing() -> None:
    image, kernel = whole_numbers(1, 6, 5), whole_numbers(2, 3, 3)
    matrix = embed_in_dense(kernel[:, :, None, None], image.shape, padding="same")
    assert matrix.shape == (30, 30)
    found = (image.ravel() @ matrix).reshape(image.shape)
    np.testing.assert_array_equal(found, scipy.signal.correlate(image, kernel, mode="same", method="direct"))


@pytest.mark.parametrize(
    ("x", "kernels", "options", "says"),
    [
        ((1, 5, 2), (3, 3, 1, 4), {}, "needs kernels"),
        ((1, 5, 5, 1), (3, 3, 1, 4), {}, "needs kernels"),
        ((1, 5), (5, 4), {}, "needs kernels"),
        ((1, 5, 1), (5, 3, 1, 4), {}, r"there are \(3,\) positions, and kernels for \(5,\)"),
        ((1, 5, 1), (3, 3, 1, 4), {"padding": "same"}, r"there are \(5,\) positions"),
        ((1, 2, 1), (1, 3, 1, 4), {}, "does not fit"),
        ((1, 5, 2), (3, 3, 2, 4), {"groups": 2}, "2 groups: needs kernels"),
        ((1, 5, 2), (3, 3, 1, 3), {"groups": 2}, "2 groups must divide 3 features"),
        ((1, 5, 1), (5, 3, 1, 4), {"padding": "same", "border": "circular", "fill": 1}, "has no constant"),
    ],
)
def test_wrong_shapes_are_refused(
    x: tuple[int, ...], kernels: tuple[int, ...], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        correlate_unshared(jnp.ones(x), jnp.ones(kernels), **options)
