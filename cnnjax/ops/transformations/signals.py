"""Signals [N, W, C] moved, stretched, amplified and spoilt by noise.

A magnitude is a scalar or [N], one for each signal. All are differentiable in signals and magnitude, leave the signal
as it is at magnitude 0, return the shape and dtype of the signals, and raise ValueError for another shape or dtype.
`border` and `interpolation` are those of `cnnjax.ops.transformations.warps.resample`; `grid` is as in
`cnnjax.ops.transformations.geometric`.
"""

import math

import jax
import jax.numpy as jnp

from cnnjax.ops.transformations.magnitudes import keys_of_examples, per_example
from cnnjax.ops.transformations.warps import Grid, Interpolation, WarpBorder, pixel_grid, places, resample, resample_at


def shift(
    signals: jax.Array,
    magnitude: jax.typing.ArrayLike,
    *,
    border: WarpBorder = "circular",
    interpolation: Interpolation = "linear",
    grid: Grid | None = None,
) -> jax.Array:
    """The signal delayed by `magnitude` samples; any, and exact for whole ones."""
    moved = per_example(magnitude, signals, 1)[..., 0]
    (step,) = grid.step if grid else (1.0,)
    coordinates = (jnp.arange(signals.shape[1])[None] - moved / step,)
    return resample(signals, coordinates, border=border, interpolation=interpolation)


def stretch(
    signals: jax.Array,
    magnitude: jax.typing.ArrayLike,
    *,
    border: WarpBorder = "edge",
    interpolation: Interpolation = "linear",
    grid: Grid | None = None,
) -> jax.Array:
    """The signal made 2 ** `magnitude` times as long about its middle: in octaves; any, -1 halves and 1 doubles it."""
    factor = jnp.exp2(-per_example(magnitude, signals, 1)[..., 0])
    grid = grid or pixel_grid(signals.shape[1:2])
    (after,) = places(signals.shape[1:2], grid)
    return resample_at(signals, (factor * after,), grid, border, interpolation)


def gain(signals: jax.Array, magnitude: jax.typing.ArrayLike) -> jax.Array:
    """The signal times 10 ** (`magnitude` / 20): in decibels; any."""
    factor = jnp.exp(math.log(10) / 20 * per_example(magnitude, signals, 1))
    return (factor * signals).astype(signals.dtype)


def signal_noise(signals: jax.Array, magnitude: jax.typing.ArrayLike, key: jax.Array | None) -> jax.Array:
    """Independent Gaussian noise on every sample and channel.

    Args:
      signals: see above.
      magnitude: its standard deviation, as a multiple of each signal's own over places and channels; 0 at least.
      key: one, which is folded with the signals' places in the batch, or one for each; the same for all magnitudes.

    Raises:
      ValueError: see above, and without a key.
    """
    strength = per_example(magnitude, signals, 1)
    variance = jnp.var(signals.astype(strength.dtype), axis=(1, 2), keepdims=True)
    # The root's derivative at 0 is infinite, and would spoil that of a constant signal.
    deviation = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    keys = keys_of_examples(key, signals.shape[0])
    drawn = jax.vmap(lambda k: jax.random.normal(k, signals.shape[1:], strength.dtype))(keys)
    return (signals + strength * deviation * drawn).astype(signals.dtype)
