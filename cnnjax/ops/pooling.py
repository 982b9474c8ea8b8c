"""Pooling: a neighbourhood is replaced by a summary of it, in any number of spatial dimensions."""

import functools
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.geometry import Padding, output_size, per_dimension, resolve_padding

Sizes = tuple[int, ...]


def max_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> jax.Array:
    """The greatest value of each window; padding never wins.

    The gradient is shared equally among the greatest of a window. It is computed without a scatter, so it is the same
    at every run on every backend.

    Args:
      x: [N, *spatial, C].
      window: one size for all spatial dimensions, or one each.
      strides: the same; the window when None.
      padding: see `cnnjax.ops.geometry.resolve_padding`.

    Returns:
      [N, *positions, C].
    """
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    padded, window, strides = _resolve(x, window, strides, padding, lowest)
    if window == strides:
        whole = [slice(size - size % k) for size, k in zip(padded.shape[1:-1], window, strict=True)]
        padded = padded[:, *whole]
    return _max_windows(padded, window, strides)


def average_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> jax.Array:
    """The mean of each window over the elements that are not padding. Arguments and shapes as in `max_pool`."""
    padded, window, strides = _resolve(x, window, strides, padding, 0)
    ones, _, _ = _resolve(jnp.ones((1, *x.shape[1:-1], 1), x.dtype), window, strides, padding, 0)
    return _combine_windows(padded, window, strides, jnp.add) / _combine_windows(ones, window, strides, jnp.add)


def _resolve(
    x: jax.Array,
    window: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: Padding,
    fill: float,
) -> tuple[jax.Array, Sizes, Sizes]:
    """The padded input, and the window and strides of each spatial dimension."""
    dimensions = x.ndim - 2
    window = per_dimension(window, dimensions, "the pooling window")
    strides = window if strides is None else per_dimension(strides, dimensions, "strides")
    pads = resolve_padding(padding, x.shape[1:-1], window, strides, (1,) * dimensions)
    if any(max(pair) >= size for pair, size in zip(pads, window, strict=True)):
        raise ValueError(f"padding {pads} leaves a window of {window} with nothing but padding in it")
    if any(map(any, pads)):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    return x, window, strides


def _combine_windows(
    x: jax.Array, window: Sizes, strides: Sizes, combine: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Each window's elements combined, one axis after another."""
    for axis, (k, s) in enumerate(zip(window, strides, strict=True), start=1):
        positions = output_size(x.shape[axis], k, s)
        views = [lax.slice_in_dim(x, i, i + (positions - 1) * s + 1, stride=s, axis=axis) for i in range(k)]
        x = functools.reduce(combine, views)
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max_windows(x: jax.Array, window: Sizes, strides: Sizes) -> jax.Array:
    return _combine_windows(x, window, strides, jnp.maximum)


@_max_windows.defjvp
def _max_windows_jvp(
    window: Sizes, strides: Sizes, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The mean of the tangents of each window's greatest elements."""
    ((x,), (tangent,)) = primals, tangents
    greatest = _max_windows(x, window, strides)
    chosen_views = [view == greatest for view in _views(x, window, strides)]
    count = functools.reduce(jnp.add, [chosen.astype(x.dtype) for chosen in chosen_views])
    if window == strides:
        blocks, within = _blocks(x.shape, window)
        spread = jnp.broadcast_to(jnp.expand_dims(greatest, within), blocks).reshape(x.shape)
        kept = jnp.where(x == spread, tangent, 0)
        return greatest, kept.reshape(blocks).sum(within) / count
    tangent_views = _views(tangent, window, strides)
    kept_views = [jnp.where(chosen, t, 0) for chosen, t in zip(chosen_views, tangent_views, strict=True)]
    return greatest, functools.reduce(jnp.add, kept_views) / count


def _blocks(shape: Sizes, window: Sizes) -> tuple[Sizes, tuple[int, ...]]:
    """The shape with each spatial axis as (positions, within), for windows that tile it, and the axes `within`."""
    split = [size for total, k in zip(shape[1:-1], window, strict=True) for size in (total // k, k)]
    return (shape[0], *split, shape[-1]), tuple(range(2, 2 * len(window) + 1, 2))


def _views(x: jax.Array, window: Sizes, strides: Sizes) -> list[jax.Array]:
    """For each offset of the window, the elements there at all positions."""
    positions = [output_size(size, k, s) for size, k, s in zip(x.shape[1:-1], window, strides, strict=True)]
    views = []
    for offset in itertools.product(*map(range, window)):
        stop = [o + (p - 1) * s + 1 for o, p, s in zip(offset, positions, strides, strict=True)]
        views.append(lax.slice(x, (0, *offset, 0), (x.shape[0], *stop, x.shape[-1]), (1, *strides, 1)))
    return views
