"""Averages whose weights fall with the distance from the window's centre, over what is not padding."""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.geometry import Padding
from cnnjax.ops.pooling.windows import (
    covered_weight,
    over,
    pad_with,
    pooling_windows,
    weigh_windows,
    window_views,
)


def gaussian_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    sigma: float | None = None,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """The mean of each window with weights exp(-d^2 / (2 sigma^2)), d being the distance from the window's centre.

    The weights of the elements that are not padding sum to 1, at the border too. Arguments and shapes as in
    `max_pool`, and

    Args:
      sigma: in elements; when None a quarter of the window along each dimension, so that it ends at two sigma.

    Raises:
      ValueError: for a sigma that is not positive, and as in `max_pool`.
    """
    if sigma is not None and sigma <= 0:
        raise ValueError(f"sigma must be positive; given {sigma}")
    windows = pooling_windows(x, window, strides, padding, exact)
    weights = [np.exp(-((_from_centre(k) / (sigma or k / 4)) ** 2) / 2) for k in windows.window]
    total = weigh_windows(pad_with(x, windows.padding, 0), weights, windows.strides)
    return over(total, covered_weight(x.shape[1:-1], windows, weights))


def distance_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """The mean of each window with weights 1 / (1 + d), d being the Euclidean distance from the window's centre.

    It is the "weighted average based on the distance from the central pixel" of Goodfellow, Bengio and Courville 2016,
    section 9.3, who leave the weights open. Those of the elements that are not padding sum to 1, at the border too.
    Arguments and shapes as in `max_pool`.
    """
    windows = pooling_windows(x, window, strides, padding, exact)
    offsets = itertools.product(*map(_from_centre, windows.window))
    weights = [1 / (1 + math.hypot(*offset)) for offset in offsets]

    def total(values: jax.Array) -> jax.Array:
        views = window_views(pad_with(values, windows.padding, 0), windows.window, windows.strides)
        return functools.reduce(jnp.add, [weight * view for weight, view in zip(weights, views, strict=True)])

    if not windows.are_padded:
        return total(x) / sum(weights)
    return total(x) / total(jnp.ones((1, *x.shape[1:-1], 1), x.dtype))


def _from_centre(size: int) -> np.ndarray:
    """The places along a window of this size, counted from its middle."""
    return np.arange(size) - (size - 1) / 2
