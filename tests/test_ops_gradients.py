"""The lectures' explicit gradients, against loops and against autodiff of the layer's own correlation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from cnnjax.ops.convolution import correlate
from cnnjax.ops.gradients import input_gradient, kernel_gradient
from tests.test_ops_toeplitz import Case, cases, whole_numbers


@given(cases())
def test_both_formulas_are_the_definition_and_autodiff(case: Case) -> None:
    @jax.jit
    def found(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        _, back = jax.vjp(lambda x, kernel: correlate(x, kernel, **case.settings, fill=case.fill), x, kernel)
        explicit = (
            input_gradient(kernel, gradient, x.shape[1:-1], **case.settings),
            kernel_gradient(x, gradient, kernel.shape[:-2], **case.settings, fill=case.fill),
        )
        return [explicit, back(gradient)]

    for of_x, of_kernel in found(case.x, case.kernel, case.weights):
        np.testing.assert_allclose(of_x, case.x_gradient, atol=1e-4)
        np.testing.assert_allclose(of_kernel, case.kernel_gradient, atol=1e-4)


def test_formulas_as_the_lecture_prints_them() -> None:
    """`shared/seeds/001_dbf4440b6b16890f.txt`, "Training": channels first, one image, two dimensions, stride s."""
    s, image, kernel, error = 2, whole_numbers(0, 2, 5, 7), whole_numbers(1, 3, 2, 3, 2), whole_numbers(2, 3, 2, 3)
    g, h = np.zeros_like(kernel), np.zeros_like(image)
    for i, j, k, p, m, n in np.ndindex(3, 2, 3, 2, 2, 3):
        g[i, j, k, p] += error[i, m, n] * image[j, m * s + k, n * s + p]
        h[j, s * m + k, s * n + p] += kernel[i, j, k, p] * error[i, m, n]
    x, gradient = image.transpose(1, 2, 0)[None], error.transpose(1, 2, 0)[None]
    of_kernel = kernel_gradient(x, gradient, (3, 2), strides=s)
    of_input = input_gradient(kernel.transpose(2, 3, 1, 0), gradient, (5, 7), strides=s)
    np.testing.assert_array_equal(of_kernel.transpose(3, 2, 0, 1), g)
    np.testing.assert_array_equal(of_input[0].transpose(2, 0, 1), h)


@pytest.mark.parametrize("shape", [(1, 4, 2), (1, 3, 3), (1, 3, 1, 2)])
def test_a_gradient_that_the_kernel_cannot_have_given_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the gradient at the output must be \(1, 3, 2\)"):
        input_gradient(jnp.ones((3, 1, 2)), jnp.ones(shape), (5,))


@pytest.mark.parametrize("shape", [(1, 4, 2), (2, 3, 2), (1, 3, 1, 2)])
def test_a_gradient_that_the_input_cannot_have_given_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the gradient at the output must be \(1, 3, 2\)"):
        kernel_gradient(jnp.ones((1, 5, 1)), jnp.ones(shape), (3,))
