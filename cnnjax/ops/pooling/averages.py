"""Averages of a window, and its Lp norms."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.geometry import Padding, Windows
from cnnjax.ops.pooling.windows import (
    combine_windows,
    covered_weight,
    over,
    pad_with,
    pooling_windows,
    relative_views,
)


def average_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """The mean of each window over the elements that are not padding. Arguments and shapes as in `max_pool`."""
    windows = pooling_windows(x, window, strides, padding, exact)
    total = combine_windows(pad_with(x, windows.padding, 0), windows.window, windows.strides, jnp.add)
    return over(total, _counts(x, windows))


def lp_pool(
    x: jax.Array,
    window: int | Sequence[int],
    order: float,
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """(mean of |x|^p)^(1/p) over the elements of each window that are not padding, p being the `order`.

    It runs from the mean of the magnitudes (p = 1) to their greatest (p to infinity): the Lp pooling of Sermanet,
    Chintala and LeCun 2012 with a flat window. PyTorch's `lp_pool` is the root of the *sum*: `lp_norm_pool`.

    The derivative is 0 where the window holds nothing but zeros. Arguments, shapes and errors as in `max_pool`, and

    Args:
      order: p, finite and at least 1.

    Raises:
      ValueError: for another order.
    """
    windows = pooling_windows(x, window, strides, padding, exact)
    return _root_of_powers(x, windows, order, _counts(x, windows))


def lp_norm_pool(
    x: jax.Array,
    window: int | Sequence[int],
    order: float,
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """(sum of |x|^p)^(1/p): each window's Lp norm (the L2 norm of the lectures; PyTorch's `lp_pool`). As `lp_pool`."""
    windows = pooling_windows(x, window, strides, padding, exact)
    return _root_of_powers(x, windows, order, np.ones_like(_counts(x, windows)))


def l2_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """The root of each window's mean square: `lp_pool` of order 2."""
    return lp_pool(x, window, 2, strides=strides, padding=padding, exact=exact)


def _counts(x: jax.Array, windows: Windows) -> np.ndarray:
    """How many elements of each window are not padding."""
    return covered_weight(x.shape[1:-1], windows, [np.ones(size) for size in windows.window])


def _root_of_powers(x: jax.Array, windows: Windows, order: float, divisor: np.ndarray) -> jax.Array:
    if not 1 <= order < np.inf:
        raise ValueError(f"the order of Lp pooling must be finite and at least 1; given {order}")
    # JAX's derivative of |x| is 1 at 0; this one's is 0, between those on either side.
    quotients, greatest = relative_views(x * jnp.sign(x), windows)
    powers = over(functools.reduce(jnp.add, [quotient**order for quotient in quotients]), divisor)
    return greatest * jnp.where(greatest == 0, 1, powers) ** (1 / order)
