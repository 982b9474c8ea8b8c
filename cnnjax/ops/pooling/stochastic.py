"""Stochastic pooling (Zeiler and Fergus 2013): one element of each window, drawn by its activation."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cnnjax.ops.geometry import Padding
from cnnjax.ops.pooling.windows import pad_with, pooling_windows, relative_views, window_views


def stochastic_pool(
    x: jax.Array,
    keys: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """One element of each window, drawn with probability x_i / sum of x over the window: pooling in training.

    The gradient goes to the element drawn. A window of nothing but zeros gives 0, and so does its gradient; padding
    is never drawn. Arguments, shapes and errors as in `max_pool`, except

    Args:
      x: [N, *spatial, C], not negative, as behind a ReLU; what is negative is never drawn.
      keys: [N], one for each example, so that an example's draws do not depend on the rest of its batch.
    """
    windows = pooling_windows(x, window, strides, padding, exact)
    views = window_views(pad_with(x, windows.padding, 0), windows.window, windows.strides)
    weights = [jnp.maximum(view, 0).astype(jnp.float32) for view in views]
    total = functools.reduce(jnp.add, weights)
    threshold = total * jax.vmap(lambda key: jax.random.uniform(key, total.shape[1:]))(keys)
    drawn, before = jnp.zeros_like(views[0]), jnp.zeros_like(total)
    for view, weight in zip(views, weights, strict=True):
        drawn = jnp.where((before <= threshold) & (weight > 0), view, drawn)
        before = before + weight
    return drawn


def expected_stochastic_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """The expectation of `stochastic_pool`, sum of x_i^2 / sum of x_i: the probability-weighted pooling of evaluation.

    A window of nothing but zeros gives 0, and so does its gradient. Arguments and shapes as there, without keys.
    """
    windows = pooling_windows(x, window, strides, padding, exact)
    quotients, greatest = relative_views(jnp.where(x < 0, 0, x), windows)
    total = functools.reduce(jnp.add, quotients)
    squares = functools.reduce(jnp.add, [quotient * quotient for quotient in quotients])
    return greatest * squares / jnp.where(greatest == 0, 1, total)
