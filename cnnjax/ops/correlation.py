"""Cross-correlation as a JAX primitive, computed in the form that is fastest for the backend and shapes.

XLA's own gradients of a convolution are slow on a CPU: with respect to the input it is a convolution with a reversed
kernel, and with respect to the kernel one with the batch as channels, and neither takes the fast path. Two other forms
here are one matrix product each, and so are both their gradients; the third, for depthwise kernels, has no products of
matrices at all. It is a primitive so that a traced program
shows a correlation, whatever its form, to whoever counts multiply-adds or follows receptive fields.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from cnnjax.ops.geometry import output_size
from cnnjax.ops.patches import extract_patches

Lowering = Literal["xla", "patches", "rows", "shifts"]
Pairs = tuple[tuple[int, int], ...]

_VECTOR = 8  # float32 numbers in an AVX2 register
_PRODUCT_COLUMNS = 64  # a product of patches with fewer columns waits for memory; measured


def bind_correlate(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
    lowering: Lowering,
) -> jax.Array:
    """a[n, i, f] = sum over m, k of x[n, s i + d m, k] kernel[m, k, f].

    Args:
      x: [N, *spatial, C].
      kernel: [*window, C / groups, F].
      strides: one for each spatial dimension, as are `padding` and `dilation`.
      lowering: `xla` for XLA's convolution; `patches` for one product of all that the window sees with the kernel;
        `rows` for one product of all that a row of the window sees with all the kernel's rows, whose results are
        shifted and added: it moves less memory where there are many channels, but computes the rows that a stride
        skips; `shifts` for a product of the shifted input with each element of the window, added up, where each
        feature sees a channel of its own.
      groups: of channels and features; 1 in the forms `patches` and `rows`, one for each channel in the form `shifts`.
    """
    geometry = {"strides": tuple(strides), "padding": tuple(padding), "dilation": tuple(dilation)}
    # Read where the caller is: a program is lowered after the caller's `jax.default_matmul_precision` has ended.
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return correlate_p.bind(x, kernel, **geometry, groups=groups, lowering=lowering, precision=precision)


def _by_xla(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pairs, dilation: Sequence[int], groups: int
) -> jax.Array:
    spatial = "DHW"[-len(strides) :]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=layout,
        feature_group_count=groups,
    )


def _by_patches(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pairs, dilation: Sequence[int]
) -> jax.Array:
    window, features = kernel.shape[:-2], kernel.shape[-1]
    before, after = padding[-1]
    positions = output_size(x.shape[-2], window[-1], strides[-1], padding[-1], dilation[-1])
    side_by_side = 1 if strides[-1] > 1 or dilation[-1] > 1 else min(max(_PRODUCT_COLUMNS // features, 1), 4, positions)
    patches = extract_patches(
        x,
        (*window[:-1], window[-1] + side_by_side - 1),
        strides=(*strides[:-1], strides[-1] * side_by_side),
        padding=(*padding[:-1], (before, after + -positions % side_by_side)),
        dilation=dilation,
    )
    product = _multiply(patches, _banded(kernel, side_by_side).reshape(-1, side_by_side * features))
    return product.reshape(*product.shape[:-2], -1, features)[..., :positions, :].astype(x.dtype)


def _banded(kernel: jax.Array, copies: int) -> jax.Array:
    """[*rest, k, C, F] to [*rest, k + copies - 1, C, copies, F], the j-th copy shifted by j: the kernel for positions
    side by side, of which each patch then serves all. Patches are fewer by as many and hardly larger."""
    edges = [(0, 0, 0)] * kernel.ndim
    shifted = []
    for shift in range(copies):
        edges[-3] = (shift, copies - 1 - shift, 0)
        shifted.append(lax.pad(kernel, jnp.zeros((), kernel.dtype), edges))
    return jnp.stack(shifted, axis=-2)


def _by_rows(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    *,
    in_place: bool = False,
) -> jax.Array:
    rows, features, step = kernel.shape[0], kernel.shape[-1], strides[0]
    inner = (1, *kernel.shape[1:-2])
    seen = extract_patches(x, inner, strides=(1, *strides[1:]), padding=((0, 0), *padding[1:]), dilation=dilation)
    product = _multiply(seen, jnp.moveaxis(kernel, 0, -2).reshape(-1, rows * features))
    span = (output_size(x.shape[1], rows, step, padding[0], dilation[0]) - 1) * step + 1
    parts = lax.split(product, (features,) * rows, axis=-1)
    starts = [padding[0][0] - row * dilation[0] for row in range(rows)]
    met = [(part, start) for part, start in zip(parts, starts, strict=True) if -x.shape[1] < start < span]
    if not met:
        return jnp.zeros((x.shape[0], len(range(0, span, step)), *product.shape[2:-1], features), x.dtype)
    return (_add_in_place if in_place else _add_padded)(met, span)[:, ::step].astype(x.dtype)


def _add_padded(parts: Sequence[tuple[jax.Array, int]], span: int) -> jax.Array:
    """Arrays [N, size, ...] laid at their starts along the first of `span` places, and added up."""
    return functools.reduce(jnp.add, [_laid(part, start, span) for part, start in parts])


def _add_in_place(parts: Sequence[tuple[jax.Array, int]], span: int) -> jax.Array:
    """The same. XLA then stores the sum once, where it would compute that of padded arrays anew for each use; but the
    transpose of an update is slow."""
    (part, start), *rest = sorted(parts, key=lambda laid: abs(laid[1]))
    total = _laid(part, start, span)
    for part, start in rest:
        first, end = max(start, 0), min(start + part.shape[1], span)
        met = lax.slice_in_dim(part, first - start, end - start, axis=1)
        total = lax.dynamic_update_slice_in_dim(total, lax.slice_in_dim(total, first, end, axis=1) + met, first, axis=1)
    return total


def _laid(part: jax.Array, start: int, span: int) -> jax.Array:
    """An array [N, size, ...] from `start` on along the first of `span` places, zeros elsewhere."""
    edges = [(0, 0, 0), (start, span - part.shape[1] - start, 0)] + [(0, 0, 0)] * (part.ndim - 2)
    return lax.pad(part, jnp.zeros((), part.dtype), edges)


def _by_shifts(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pairs, dilation: Sequence[int], groups: int
) -> jax.Array:
    window, channels, features = kernel.shape[:-2], x.shape[-1], kernel.shape[-1]
    assert groups == channels == features, "each feature sees a channel of its own"
    exact = jnp.promote_types(x.dtype, jnp.float32)  # in which a sum may follow
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0))).astype(exact)
    weights = kernel.astype(exact)
    along = zip(padded.shape[1:-1], window, strides, dilation, strict=True)
    spans = [(output_size(size, k, s, (0, 0), d) - 1) * s + 1 for size, k, s, d in along]
    total = jnp.zeros((), exact)
    for offset in np.ndindex(*window):
        starts = [d * m for d, m in zip(dilation, offset, strict=True)]
        stops = [start + span for start, span in zip(starts, spans, strict=True)]
        seen = lax.slice(padded, (0, *starts, 0), (len(x), *stops, channels), (1, *strides, 1))
        total = total + seen * weights[offset][0]
    return total.astype(x.dtype)


def _multiply(seen: jax.Array, matrix: jax.Array) -> jax.Array:
    """seen [..., K] times matrix [K, M] in float32 at least, for a sum may follow.

    In two axes, for XLA's product over more of them transposes first; and with columns of zeros up to a whole number of
    vectors, without which 6 columns take longer than 8.
    """
    columns = matrix.shape[-1]
    product = jnp.matmul(
        seen.reshape(-1, seen.shape[-1]),
        jnp.pad(matrix, ((0, 0), (0, -columns % _VECTOR))),
        preferred_element_type=jnp.promote_types(seen.dtype, jnp.float32),
    )
    return product[:, :columns].reshape(*seen.shape[:-1], columns)


def _compute(
    x: jax.Array, kernel: jax.Array, lowering: str, groups: int, precision: str | None, **geometry: Any
) -> jax.Array:
    with jax.default_matmul_precision(precision):
        if lowering == "xla":
            return _by_xla(x, kernel, **geometry, groups=groups)
        if lowering == "shifts":
            return _by_shifts(x, kernel, **geometry, groups=groups)
        return (_by_rows if lowering == "rows" else _by_patches)(x, kernel, **geometry)


def _lower(x: jax.Array, kernel: jax.Array, lowering: str, **parameters: Any) -> jax.Array:
    """As `_compute`, in a program that nobody will differentiate any more."""
    options: dict[str, Any] = {"in_place": True} if lowering == "rows" else {}
    return _compute(x, kernel, lowering, **parameters, **options)


def _transpose_to_input(gradient: jax.Array, x: ad.UndefinedPrimal, kernel: jax.Array, **parameters: Any) -> jax.Array:
    """dJ/dx from dJ/da: the lectures' h(K, G, s)."""
    (result,) = jax.linear_transpose(lambda x: _compute(x, kernel, **parameters), x.aval)(gradient)
    return result


def _transpose_to_kernel(gradient: jax.Array, x: jax.Array, kernel: ad.UndefinedPrimal, **parameters: Any) -> jax.Array:
    """dJ/dkernel from dJ/da: the lectures' g(G, V, s)."""
    (result,) = jax.linear_transpose(lambda kernel: _compute(x, kernel, **parameters), kernel.aval)(gradient)
    return result


def _batch(operands: tuple[jax.Array, jax.Array], axes: tuple[Any, Any], **parameters: Any) -> tuple[jax.Array, int]:
    """Batched inputs join the batch; batched kernels are left to JAX's own batching of the form."""
    (x, kernel), (x_axis, kernel_axis) = operands, axes
    if kernel_axis is not None:
        return jax.vmap(lambda x, k: _compute(x, k, **parameters), (x_axis, kernel_axis))(x, kernel), 0
    x = jnp.moveaxis(x, x_axis, 0)
    joined = correlate_p.bind(x.reshape(-1, *x.shape[2:]), kernel, **parameters)
    return joined.reshape(*x.shape[:2], *joined.shape[1:]), 0


def _shape(
    x: jax.core.ShapedArray,
    kernel: jax.core.ShapedArray,
    *,
    strides: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    **_: Any,
) -> jax.core.ShapedArray:
    windows = zip(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation, strict=True)
    return jax.core.ShapedArray((x.shape[0], *(output_size(*window) for window in windows), kernel.shape[-1]), x.dtype)


_STATIC = ("strides", "padding", "dilation", "groups", "lowering", "precision")

correlate_p = Primitive("correlate")
correlate_p.def_impl(jax.jit(_lower, static_argnames=_STATIC))
correlate_p.def_abstract_eval(_shape)
mlir.register_lowering(correlate_p, mlir.lower_fun(_lower, multiple_results=False))
ad.defbilinear(correlate_p, _transpose_to_input, _transpose_to_kernel)
batching.primitive_batchers[correlate_p] = _batch
