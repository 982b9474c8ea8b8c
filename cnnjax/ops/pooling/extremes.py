"""The greatest value of a window."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cnnjax.ops.geometry import Padding
from cnnjax.ops.pooling.windows import Sizes, combine_windows, pad_with, pooling_windows, window_views


def max_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """The greatest value of each window; padding never wins.

    The gradient is shared equally among the greatest of a window. It is computed without a scatter, so it is the same
    at every run on every backend.

    Slices, and blocks where the windows tile the grid, are the form on every backend. On a CPU it is the fastest that
    was measured (`experiments/lowerings.py`). On others it was not measured; it is taken there because the gradient of
    XLA's own windows has no deterministic form on a GPU, and gives a tie to one element alone.

    Args:
      x: [N, *spatial, C].
      window: one size for all spatial dimensions, or one each.
      strides: the same; the window when None.
      padding: see `cnnjax.ops.geometry.resolve_padding`.
      exact: whether the windows must fit without a rest.

    Returns:
      [N, *positions, C].

    Raises:
      ValueError: for wrong windows, see `cnnjax.ops.pooling.windows.pooling_windows`.
    """
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    windows = pooling_windows(x, window, strides, padding, exact)
    padded = pad_with(x, windows.padding, lowest)
    if windows.window == windows.strides:
        whole = [slice(size - size % k) for size, k in zip(padded.shape[1:-1], windows.window, strict=True)]
        padded = padded[:, *whole]
    return _max_windows(padded, windows.window, windows.strides)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max_windows(x: jax.Array, window: Sizes, strides: Sizes) -> jax.Array:
    return combine_windows(x, window, strides, jnp.maximum)


@_max_windows.defjvp
def _max_windows_jvp(
    window: Sizes, strides: Sizes, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The mean of the tangents of each window's greatest elements."""
    ((x,), (tangent,)) = primals, tangents
    greatest = _max_windows(x, window, strides)
    chosen_views = [view == greatest for view in window_views(x, window, strides)]
    count = functools.reduce(jnp.add, [chosen.astype(x.dtype) for chosen in chosen_views])
    if window == strides:
        blocks, within = _blocks(x.shape, window)
        spread = jnp.broadcast_to(jnp.expand_dims(greatest, within), blocks).reshape(x.shape)
        kept = jnp.where(x == spread, tangent, 0)
        return greatest, kept.reshape(blocks).sum(within) / count
    tangent_views = window_views(tangent, window, strides)
    kept_views = [jnp.where(chosen, t, 0) for chosen, t in zip(chosen_views, tangent_views, strict=True)]
    return greatest, functools.reduce(jnp.add, kept_views) / count


def _blocks(shape: Sizes, window: Sizes) -> tuple[Sizes, tuple[int, ...]]:
    """The shape with each spatial axis as (positions, within), for windows that tile it, and the axes `within`."""
    split = [size for total, k in zip(shape[1:-1], window, strict=True) for size in (total // k, k)]
    return (shape[0], *split, shape[-1]), tuple(range(2, 2 * len(window) + 1, 2))
