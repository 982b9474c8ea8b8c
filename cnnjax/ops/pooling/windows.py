"""Windows that slide over a grid, for pooling: what they see, as strided slices, and how much of it is no padding.

Everything is slices, padding and elementwise arithmetic, whose gradients are the same: no scatter, so the same numbers
at every run on every backend.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.ops.geometry import Padding, Windows, output_size, per_dimension, place_windows

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def pooling_windows(
    x: jax.Array, window: int | Sequence[int], strides: int | Sequence[int] | None, padding: Padding, exact: bool
) -> Windows:
    """The windows that slide over x [N, *spatial, C]; strides of None are the window.

    Raises:
      ValueError: for settings that `cnnjax.ops.geometry.place_windows` refuses, among them windows that leave a rest
        where `exact` is asked for; or a padding that leaves a window with nothing but padding in it.
    """
    sizes = per_dimension(window, x.ndim - 2, "the window")
    steps = sizes if strides is None else strides
    windows = place_windows(x.shape[1:-1], sizes, strides=steps, padding=padding, exact=exact)
    if any(max(pair) >= size for pair, size in zip(windows.padding, sizes, strict=True)):
        raise ValueError(f"padding {windows.padding} leaves a window of {sizes} with nothing but padding in it")
    return windows


def pad_with(x: jax.Array, pads: Pairs, fill: float) -> jax.Array:
    """x [N, *spatial, C] with `fill` before and after each spatial dimension."""
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill) if any(map(any, pads)) else x


def combine_windows(
    x: jax.Array, window: Sizes, strides: Sizes, combine: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Each window's elements combined, one axis after another."""
    for axis, (k, s) in enumerate(zip(window, strides, strict=True), start=1):
        x = functools.reduce(combine, _shifted(x, axis, k, s))
    return x


def weigh_windows(x: jax.Array, weights: Sequence[np.ndarray], strides: Sizes) -> jax.Array:
    """The sum over each window of its elements times the product of the weights of their places along each axis.

    `weights` has a vector for each spatial dimension, as long as the window there.
    """
    for axis, (vector, s) in enumerate(zip(weights, strides, strict=True), start=1):
        slices = _shifted(x, axis, len(vector), s)
        x = functools.reduce(jnp.add, [float(weight) * part for weight, part in zip(vector, slices, strict=True)])
    return x


def window_views(x: jax.Array, window: Sizes, strides: Sizes) -> list[jax.Array]:
    """For each offset of the window, the elements there at all positions."""
    positions = [output_size(size, k, s) for size, k, s in zip(x.shape[1:-1], window, strides, strict=True)]
    views = []
    for offset in itertools.product(*map(range, window)):
        stop = [o + (p - 1) * s + 1 for o, p, s in zip(offset, positions, strides, strict=True)]
        views.append(lax.slice(x, (0, *offset, 0), (x.shape[0], *stop, x.shape[-1]), (1, *strides, 1)))
    return views


def relative_views(magnitudes: jax.Array, windows: Windows) -> tuple[list[jax.Array], jax.Array]:
    """What each window sees, over the greatest of it, for each offset, and that greatest: all [N, *positions, C].

    The greatest counts as a constant for derivatives: a summary that grows in proportion to its input, computed from
    the quotients and multiplied by the greatest again, has the right ones, and no power of an element can overflow or
    vanish. Where the window holds nothing but zeros so are the quotients and their derivatives.

    Args:
      magnitudes: [N, *spatial, C], not negative; padding is 0.
      windows: how they slide.
    """
    views = window_views(pad_with(magnitudes, windows.padding, 0), windows.window, windows.strides)
    greatest = lax.stop_gradient(functools.reduce(jnp.maximum, views))
    divisor = jnp.where(greatest == 0, 1, greatest)
    return [view / divisor for view in views], greatest


def covered_weight(spatial: Sequence[int], windows: Windows, weights: Sequence[np.ndarray]) -> np.ndarray:
    """How much of the weight of `weigh_windows` lies on elements that are not padding: [*positions], float64."""
    along = []
    for size, k, s, pad, vector in zip(spatial, windows.window, windows.strides, windows.padding, weights, strict=True):
        inside = np.pad(np.ones(size), pad)
        along.append(np.lib.stride_tricks.sliding_window_view(inside, k)[::s] @ vector)
    return functools.reduce(np.multiply.outer, along)


def over(total: jax.Array, divisor: np.ndarray) -> jax.Array:
    """total [N, *positions, C] divided by [*positions], in the total's own type."""
    return total / jnp.asarray(divisor[..., None], total.dtype)


def _shifted(x: jax.Array, axis: int, k: int, s: int) -> list[jax.Array]:
    """For each of the window's k places along the axis, the elements there at all positions."""
    last = (output_size(x.shape[axis], k, s) - 1) * s
    return [lax.slice_in_dim(x, i, i + last + 1, stride=s, axis=axis) for i in range(k)]
