"""Normalisation by statistics of one example: of neighbouring channels, of a neighbourhood, of groups of channels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def local_response(
    x: jax.Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> jax.Array:
    """b_i = a_i / (k + alpha * sum over the `size` channels j around i of a_j^2)^beta (Krizhevsky 2012, section 3.3).

    Channels beyond the first and the last count as 0. The defaults are AlexNet's. PyTorch and Caffe put alpha / size
    in the place of alpha: their alpha is `size` times the one here.

    Args:
      x: [N, ..., C], floating.
      size: an odd number of channels.
      k: above 0, so that the quotient exists where all the channels are 0.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: if `size` is not odd and positive, or `k` is not positive.
    """
    _require_odd(size, "the number of channels")
    if k <= 0:
        raise ValueError(f"k must be positive; given {k}")
    energy = _weighted_sum(jnp.square(x), np.ones(size), x.ndim - 1)
    return x * (k + alpha * energy) ** -beta


def local_contrast(
    x: jax.Array, *, window: int = 9, standard_deviation: float | None = None, epsilon: float = 1e-5
) -> jax.Array:
    """Subtractive, then divisive normalisation by a neighbourhood (Jarrett 2009, section 2.1).

    v = x - the mean of x, and y = v / max(mean of sigma, sigma), where sigma^2 is the mean of v^2 plus `epsilon`. Both
    means at a position are over all channels and a Gaussian window around it, whose weights add up to 1 over what lies
    inside the grid; the mean of sigma is over an example's positions. So a constant input gives 0 up to the borders.

    Args:
      x: [N, *spatial, C], floating.
      window: an odd number of positions along each spatial dimension.
      standard_deviation: the Gaussian's, in positions; a quarter of the window when None.
      epsilon: above 0, so that output and gradient are finite where the input is constant. The paper has none.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: if x has no spatial dimension, `window` is not odd and positive, or another argument not positive.
    """
    if x.ndim < 3:
        raise ValueError(f"local contrast needs an input [N, *spatial, C]; given {x.shape}")
    _require_odd(window, "the window")
    deviation = window / 4 if standard_deviation is None else standard_deviation
    if deviation <= 0 or epsilon <= 0:
        raise ValueError(f"standard_deviation and epsilon must be positive; given {deviation} and {epsilon}")
    weights = np.exp(-0.5 * ((np.arange(window) - window // 2) / deviation) ** 2)
    centred = x - _local_mean(x, weights)
    sigma = jnp.sqrt(_local_mean(jnp.square(centred), weights) + epsilon)
    return centred / jnp.maximum(sigma, sigma.mean(range(1, x.ndim), keepdims=True))


def standardise_groups(x: jax.Array, groups: int, *, epsilon: float = 1e-5) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon), over all positions and the channels of one group (Wu and He 2018).

    One group is layer normalisation (Ba 2016), a group for each channel instance normalisation (Ulyanov 2016).

    Args:
      x: [N, ..., C], floating; the statistics are computed in float32 at least.
      groups: of C / groups successive channels.

    Returns:
      The shape and dtype of x.

    Raises:
      ValueError: if the channels are not a multiple of `groups`.
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels do not make {groups} groups of equal size")
    grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
    grouped = grouped.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = (*range(1, x.ndim - 1), x.ndim)
    centred = grouped - grouped.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return (centred * lax.rsqrt(variance + epsilon)).reshape(x.shape).astype(x.dtype)


def _require_odd(size: int, what: str) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"{what} must be odd and positive, to have a centre; given {size}")


def _weighted_sum(x: jax.Array, weights: np.ndarray, axis: int) -> jax.Array:
    """The sum of each element's neighbours along an axis, times their weights; 0 beyond the ends."""
    reach = len(weights) // 2
    edges = [(0, 0)] * x.ndim
    edges[axis] = (reach, reach)
    padded = jnp.pad(x, edges)
    views = [lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(len(weights))]
    return functools.reduce(jnp.add, [float(w) * view for w, view in zip(weights, views, strict=True)])


def _local_mean(x: jax.Array, weights: np.ndarray) -> jax.Array:
    """[N, *spatial, C] to [N, *spatial, 1]: the mean over channels and a window of weights w[i] w[j] ... .

    The window and the grid are both products of intervals, so each dimension's weights can be normalised alone.
    """
    x = x.mean(-1, keepdims=True)
    for axis in range(1, x.ndim - 1):
        inside = np.convolve(np.ones(x.shape[axis]), weights)[len(weights) // 2 :][: x.shape[axis]]
        shape = [-1 if a == axis else 1 for a in range(x.ndim)]
        x = _weighted_sum(x, weights, axis) / inside.reshape(shape).astype(x.dtype)
    return x
