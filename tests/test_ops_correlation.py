"""The primitive `correlate_p` under JAX's transformations, against XLA, bilinearity and differences."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnjax.ops.correlation import bind_correlate, correlate_p

GEOMETRY = {"strides": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 1}
X_SHAPE, KERNEL_SHAPE = (2, 5, 6, 2), (3, 2, 2, 3)


def whole_numbers(seed: int, *shape: int) -> jax.Array:
    """Small ones, whose sums are exact in float32."""
    return jnp.asarray(np.random.default_rng(seed).integers(-3, 4, shape), jnp.float32)


def by_xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return bind_correlate(x, kernel, **GEOMETRY, lowering="xla")


def by_patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return bind_correlate(x, kernel, **GEOMETRY, lowering="patches")


def by_rows(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return bind_correlate(x, kernel, **GEOMETRY, lowering="rows")


Function = Callable[..., jax.Array]
every_form = pytest.mark.parametrize("bind", [by_xla, by_patches, by_rows])


def reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        GEOMETRY["strides"],
        GEOMETRY["padding"],
        rhs_dilation=GEOMETRY["dilation"],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def gradients(function: Function) -> Function:
    return jax.grad(lambda x, kernel: jnp.sum(function(x, kernel) ** 2), argnums=(0, 1))


REFERENCE_GRADIENTS = jax.jit(gradients(reference))


@every_form
def test_one_equation_of_the_primitive_stands_in_the_program(bind: Function) -> None:
    program = jax.make_jaxpr(bind)(jnp.ones(X_SHAPE), jnp.ones(KERNEL_SHAPE))
    assert [equation.primitive for equation in program.eqns] == [correlate_p]
    expected = jax.eval_shape(reference, jnp.ones(X_SHAPE), jnp.ones(KERNEL_SHAPE))
    assert program.out_avals[0].shape == expected.shape
    assert program.out_avals[0].dtype == expected.dtype


@every_form
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_compiled_and_not_give_the_same(dtype: jnp.dtype, bind: Function) -> None:
    x, kernel = whole_numbers(0, *X_SHAPE).astype(dtype), whole_numbers(1, *KERNEL_SHAPE).astype(dtype)
    expected = reference(x.astype(jnp.float32), kernel.astype(jnp.float32))
    for found in (bind(x, kernel), jax.jit(bind)(x, kernel)):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=1e-4)


@every_form
def test_jvp_is_the_product_rule(bind: Function) -> None:
    x, dx = whole_numbers(0, *X_SHAPE), whole_numbers(1, *X_SHAPE)
    kernel, dkernel = whole_numbers(2, *KERNEL_SHAPE), whole_numbers(3, *KERNEL_SHAPE)
    value, tangent = jax.jvp(bind, (x, kernel), (dx, dkernel))
    np.testing.assert_allclose(value, reference(x, kernel), atol=1e-4)
    np.testing.assert_allclose(tangent, reference(dx, kernel) + reference(x, dkernel), atol=1e-4)


@every_form
def test_jvp_along_one_operand(bind: Function) -> None:
    x, dx, kernel = whole_numbers(0, *X_SHAPE), whole_numbers(1, *X_SHAPE), whole_numbers(2, *KERNEL_SHAPE)
    of_input = jax.jvp(lambda x: bind(x, kernel), (x,), (dx,))[1]
    of_kernel = jax.jvp(lambda k: bind(x, k), (kernel,), (2 * kernel,))[1]
    np.testing.assert_allclose(of_input, reference(dx, kernel), atol=1e-4)
    np.testing.assert_allclose(of_kernel, 2 * reference(x, kernel), atol=1e-4)


@every_form
def test_first_derivatives_are_finite_differences(bind: Function) -> None:
    x, kernel = whole_numbers(0, 1, 4, 4, 1), whole_numbers(1, 2, 2, 1, 2)
    wide = 0.5  # a central difference of a product is exact at any width: the wider, the less is rounded
    check_grads(jax.jit(bind), (x, kernel), order=1, eps=wide, atol=1e-3, rtol=1e-3)


@every_form
def test_second_derivatives_are_those_of_xla(bind: Function) -> None:
    x, dx = whole_numbers(0, *X_SHAPE), whole_numbers(1, *X_SHAPE)
    kernel, dkernel = whole_numbers(2, *KERNEL_SHAPE), whole_numbers(3, *KERNEL_SHAPE)

    def second(function: Function) -> object:
        gradient = jax.grad(lambda operands: jnp.sum(function(*operands) ** 2))
        forward = jax.jvp(gradient, ((x, kernel),), ((dx, dkernel),))[1]
        return forward, jax.vjp(gradient, (x, kernel))[1]((dx, dkernel))

    found, expected = jax.jit(lambda: (second(bind), second(reference)))()
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-5, atol=1e-2), found, expected)


@every_form
def test_gradients_are_adjoints(bind: Function) -> None:
    x, kernel = whole_numbers(0, *X_SHAPE), whole_numbers(1, *KERNEL_SHAPE)
    weights = whole_numbers(2, *reference(x, kernel).shape)
    to_input, to_kernel = jax.vjp(bind, x, kernel)[1](weights)
    product = jnp.vdot(reference(x, kernel), weights)
    np.testing.assert_allclose(jnp.vdot(x, to_input), product, atol=1e-3)
    np.testing.assert_allclose(jnp.vdot(kernel, to_kernel), product, atol=1e-3)


@every_form
def test_vmap_is_a_loop(bind: Function) -> None:
    xs, kernels = whole_numbers(0, 3, *X_SHAPE), whole_numbers(1, 3, *KERNEL_SHAPE)
    axes = [(0, None), (2, None), (None, 0), (None, 3), (0, 0), (4, 1)]

    @jax.jit
    def batched() -> list[jax.Array]:
        moved = [
            [array[0] if axis is None else jnp.moveaxis(array, 0, axis) for array, axis in ((xs, i), (kernels, j))]
            for i, j in axes
        ]
        return [jax.vmap(bind, pair)(*operands) for pair, operands in zip(axes, moved, strict=True)]

    for (i, j), found in zip(axes, batched(), strict=True):
        for run in range(3):
            expected = reference(xs[0 if i is None else run], kernels[0 if j is None else run])
            np.testing.assert_allclose(found[run], expected, atol=1e-4)


@every_form
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_gradients_of_each_member_under_vmap(axes: tuple[int | None, int | None], bind: Function) -> None:
    xs, kernels = whole_numbers(0, 3, *X_SHAPE), whole_numbers(1, 3, *KERNEL_SHAPE)
    x, kernel = (array if axis == 0 else array[0] for array, axis in zip((xs, kernels), axes, strict=True))
    found = jax.jit(jax.vmap(gradients(bind), axes))(x, kernel)
    for run in range(3):
        operands = xs[run if axes[0] == 0 else 0], kernels[run if axes[1] == 0 else 0]
        for batched, expected in zip(found, REFERENCE_GRADIENTS(*operands), strict=True):
            np.testing.assert_allclose(batched[run], expected, rtol=1e-5, atol=1e-2)


def test_rows_that_meet_nothing_but_padding() -> None:
    x, kernel = whole_numbers(0, 1, 1, 3, 2), whole_numbers(1, 2, 1, 2, 3)
    geometry = {"strides": (1, 1), "padding": ((1, 1), (0, 0)), "dilation": (2, 1), "groups": 1}
    found, back = jax.vjp(lambda x, k: bind_correlate(x, k, **geometry, lowering="rows"), x, kernel)
    np.testing.assert_array_equal(found, np.zeros((1, 1, 3, 3)))
    for gradient, operand in zip(back(jnp.ones_like(found)), (x, kernel), strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(operand))


@every_form
@pytest.mark.parametrize("asked", ["HIGHEST", "DEFAULT"])
def test_products_have_the_precision_that_was_asked_for_around_the_call(bind: Function, asked: str) -> None:
    def in_precision(x: jax.Array, kernel: jax.Array) -> jax.Array:
        with jax.default_matmul_precision(asked.lower()):
            return bind(x, kernel)

    x, kernel = jnp.ones(X_SHAPE), jnp.ones(KERNEL_SHAPE)
    kernels = jnp.ones((2, *KERNEL_SHAPE))
    texts = [
        jax.jit(in_precision).lower(x, kernel).as_text(),
        jax.jit(gradients(in_precision)).lower(x, kernel).as_text(),
        jax.jit(jax.vmap(in_precision, (None, 0))).lower(x, kernels).as_text(),
    ]
    for text in texts:
        products = re.findall(r"stablehlo\.(?:dot_general|convolution).*", text)
        assert products
        assert all(product.count(asked) == 2 for product in products)
