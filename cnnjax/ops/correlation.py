"""Cross-correlation as a JAX primitive whose gradients are fast on a CPU.

XLA's own gradients of a convolution are: with respect to the input, a convolution with a reversed kernel, and with
respect to the kernel, one with the batch as channels. On a CPU neither takes the fast path, and both are more than ten
times slower than the convolution. Here the kernel is reversed before the first, and the second is a matrix product:
one of all patches, where they are small, or else one for each offset of the window. It is a primitive, not a
`custom_vjp`, so that forward mode and `vmap` work too.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cnnjax.ops.patches import extract_patches

Pairs = tuple[tuple[int, int], ...]


def xla_correlate(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pairs, dilation: Sequence[int]
) -> jax.Array:
    """XLA's own, of x [N, *spatial, C] and kernel [*window, C, F]."""
    spatial = "DHW"[-len(strides) :]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=layout)


def correlate_for_cpu(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    *,
    use_patches: bool,
) -> jax.Array:
    """The same function as `xla_correlate`, with the gradients that this module is for.

    Args:
      use_patches: whether to multiply patches by the kernel, in the function and its gradient, instead of using XLA's
        convolution in the one and the window's offsets in the other.
    """
    geometry = {"strides": tuple(strides), "padding": tuple(padding), "dilation": tuple(dilation)}
    return correlate_p.bind(x, kernel, **geometry, use_patches=use_patches)


def _compute(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    use_patches: bool,
) -> jax.Array:
    if not use_patches:
        return xla_correlate(x, kernel, strides, padding, dilation)
    patches = extract_patches(x, kernel.shape[:-2], strides=strides, padding=padding, dilation=dilation)
    features = kernel.shape[-1]
    # Two axes: XLA's product over more of them transposes first.
    product = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, features)
    return product.reshape(*patches.shape[:-1], features)


def input_gradient(
    kernel: jax.Array,
    gradient: jax.Array,
    spatial: Sequence[int],
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
) -> jax.Array:
    """dJ/dx [N, *spatial, C] from dJ/da [N, *positions, F]: the lectures' h(K, G, s).

    The gradient is spread out by the strides and correlated with the kernel, reversed and with channels exchanged.
    """
    dimensions = range(len(spatial))
    edges: list[tuple[int, int, int]] = [(0, 0, 0)]
    for axis in dimensions:
        extent = dilation[axis] * (kernel.shape[axis] - 1)
        spread = (gradient.shape[axis + 1] - 1) * strides[axis] + 1
        before = extent - padding[axis][0]
        edges.append((before, spatial[axis] + extent - before - spread, strides[axis] - 1))
    spread_out = lax.pad(gradient, jnp.zeros((), gradient.dtype), [*edges, (0, 0, 0)])
    reversed_kernel = jnp.flip(kernel, tuple(dimensions)).swapaxes(-1, -2)
    ones = (1,) * len(spatial)
    return xla_correlate(spread_out, reversed_kernel, ones, ((0, 0),) * len(spatial), dilation)


def kernel_gradient(
    x: jax.Array,
    gradient: jax.Array,
    window: Sequence[int],
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    use_patches: bool,
) -> jax.Array:
    """dJ/dkernel [*window, C, F] from dJ/da [N, *positions, F]: the lectures' g(G, V, s).

    The product of what each offset of the window meets with the gradient, for all offsets at once (patches) or one
    after another.
    """
    shape = (*window, x.shape[-1], gradient.shape[-1])
    flat_gradient = gradient.reshape(-1, gradient.shape[-1])
    if use_patches:
        patches = extract_patches(x, window, strides=strides, padding=padding, dilation=dilation)
        return (patches.reshape(-1, patches.shape[-1]).T @ flat_gradient).reshape(shape)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    products = []
    for offset in itertools.product(*map(range, window)):
        start = [o * d for o, d in zip(offset, dilation, strict=True)]
        stop = [b + (p - 1) * s + 1 for b, p, s in zip(start, gradient.shape[1:-1], strides, strict=True)]
        met = lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *strides, 1))
        products.append(met.reshape(-1, x.shape[-1]).T @ flat_gradient)
    return jnp.stack(products).reshape(shape)


def _transpose_to_input(
    gradient: jax.Array, x: ad.UndefinedPrimal, kernel: jax.Array, use_patches: bool, **geometry: Any
) -> jax.Array:
    del use_patches
    return input_gradient(kernel, gradient, x.aval.shape[1:-1], **geometry)


def _transpose_to_kernel(gradient: jax.Array, x: jax.Array, kernel: ad.UndefinedPrimal, **parameters: Any) -> jax.Array:
    return kernel_gradient(x, gradient, kernel.aval.shape[:-2], **parameters)


def _batch(operands: tuple[jax.Array, jax.Array], axes: tuple[Any, Any], **parameters: Any) -> tuple[jax.Array, int]:
    """Batched inputs join the batch; batched kernels are left to XLA's own batching."""
    (x, kernel), (x_axis, kernel_axis) = operands, axes
    if kernel_axis is not None:
        return jax.vmap(lambda x, k: _compute(x, k, **parameters), (x_axis, kernel_axis))(x, kernel), 0
    x = jnp.moveaxis(x, x_axis, 0)
    joined = correlate_p.bind(x.reshape(-1, *x.shape[2:]), kernel, **parameters)
    return joined.reshape(*x.shape[:2], *joined.shape[1:]), 0


def _shape(x: jax.Array, kernel: jax.Array, **parameters: Any) -> jax.core.ShapedArray:
    output = jax.eval_shape(lambda x, k: _compute(x, k, **parameters), x, kernel)
    return jax.core.ShapedArray(output.shape, output.dtype)


correlate_p = Primitive("correlate")
correlate_p.def_impl(jax.jit(_compute, static_argnames=("strides", "padding", "dilation", "use_patches")))
correlate_p.def_abstract_eval(_shape)
mlir.register_lowering(correlate_p, mlir.lower_fun(_compute, multiple_results=False))
ad.defbilinear(correlate_p, _transpose_to_input, _transpose_to_kernel)
batching.primitive_batchers[correlate_p] = _batch
