"""Pooling: a neighbourhood is replaced by a summary of it, in any number of spatial dimensions."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.geometry import Padding, output_size, per_dimension, resolve_padding


def max_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> jax.Array:
    """The greatest value of each window; padding never wins.

    The gradient at a tie is shared among the greatest. It is made of elementwise maxima, which have a deterministic
    gradient on every backend.

    Args:
      x: [N, *spatial, C].
      window: one size for all spatial dimensions, or one each.
      strides: the same; the window when None.
      padding: see `cnnjax.ops.geometry.resolve_padding`.

    Returns:
      [N, *positions, C].
    """
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return _reduce_windows(x, window, strides, padding, lowest, jnp.maximum)


def average_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> jax.Array:
    """The mean of each window over the elements that are not padding. Arguments and shapes as in `max_pool`."""
    total = _reduce_windows(x, window, strides, padding, 0, jnp.add)
    counts = _reduce_windows(jnp.ones((1, *x.shape[1:-1], 1), x.dtype), window, strides, padding, 0, jnp.add)
    return total / counts


def _reduce_windows(
    x: jax.Array,
    window: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: Padding,
    fill: float,
    combine: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    dimensions = x.ndim - 2
    window = per_dimension(window, dimensions, "the pooling window")
    strides = window if strides is None else per_dimension(strides, dimensions, "strides")
    pads = resolve_padding(padding, x.shape[1:-1], window, strides, (1,) * dimensions)
    if any(max(pair) >= size for pair, size in zip(pads, window, strict=True)):
        raise ValueError(f"padding {pads} leaves a window of {window} with nothing but padding in it")
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill) if any(map(any, pads)) else x
    for axis, (k, s) in enumerate(zip(window, strides, strict=True), start=1):
        positions = output_size(x.shape[axis], k, s)
        views = [lax.slice_in_dim(x, i, i + (positions - 1) * s + 1, stride=s, axis=axis) for i in range(k)]
        x = functools.reduce(combine, views)
    return x
