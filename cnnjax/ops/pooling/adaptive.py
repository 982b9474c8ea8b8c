"""Pooling whose regions follow the size of the input: whatever that is, the output has the size asked for."""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.ops.geometry import per_dimension

Kind = Literal["average", "max"]


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean of each channel over all positions: [N, *spatial, C] to [N, C]."""
    return x.mean(tuple(range(1, x.ndim - 1)))


def global_max_pool(x: jax.Array) -> jax.Array:
    """The greatest value of each channel: [N, *spatial, C] to [N, C]. The greatest share the gradient equally."""
    return x.max(tuple(range(1, x.ndim - 1)))


def adaptive_average_pool(x: jax.Array, size: int | Sequence[int]) -> jax.Array:
    """The mean of each region of `region_bounds`, along each dimension: [N, *spatial, C] to [N, *size, C].

    Args:
      x: [N, *spatial, C], with any spatial sizes.
      size: one number of regions for all spatial dimensions, or one each; it may exceed the input's.

    Raises:
      ValueError: for sizes that are not positive or not as many as the dimensions.
    """
    return _pool_regions(x, per_dimension(size, x.ndim - 2, "the output's size"), "average")


def adaptive_max_pool(x: jax.Array, size: int | Sequence[int]) -> jax.Array:
    """The greatest value of each region, as `adaptive_average_pool`; the greatest share the gradient equally."""
    return _pool_regions(x, per_dimension(size, x.ndim - 2, "the output's size"), "max")


def spatial_pyramid(x: jax.Array, levels: Sequence[int] = (1, 2), kind: Kind = "average") -> jax.Array:
    """Adaptive pooling at several sizes side by side (Lazebnik 2006; He 2014 in CNNs): fixed-size features.

    Level 2 has the quadrants of the lectures: "four sets of summary statistics, one for each quadrant of an image,
    regardless of the image size".

    Args:
      x: [N, *spatial, C], with d spatial dimensions of any sizes.
      levels: the regions along each dimension, for each level.
      kind: the summary of a region.

    Returns:
      [N, sum of levels**d * C]: level after level, the regions in order, all channels of a region together.

    Raises:
      ValueError: without levels, or for one that is not positive, or another kind.
    """
    if not levels:
        raise ValueError("a spatial pyramid needs at least one level")
    pooled = [_pool_regions(x, per_dimension(level, x.ndim - 2, "a pyramid's level"), kind) for level in levels]
    return jnp.concatenate([features.reshape(len(x), -1) for features in pooled], axis=1)


def region_bounds(size: int, regions: int) -> list[tuple[int, int]]:
    """The regions of one dimension: from floor(i size / regions) to before ceil((i + 1) size / regions), as PyTorch's.

    They cover everything, and neighbours share an element where the size does not divide evenly.
    """
    return [(i * size // regions, -(-(i + 1) * size // regions)) for i in range(regions)]


def _pool_regions(x: jax.Array, regions: tuple[int, ...], kind: Kind) -> jax.Array:
    if kind not in ("average", "max"):
        raise ValueError(f"the kind of pooling must be average or max; given {kind!r}")
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    fill = 0 if kind == "average" else lowest
    split = x
    for dimension, count in enumerate(regions):
        split = _split(split, 1 + 2 * dimension, count, fill)
    within = tuple(range(2, 2 * len(regions) + 1, 2))
    if kind == "max":
        return split.max(within)
    lengths = [np.diff(region_bounds(n, count))[:, 0] for n, count in zip(x.shape[1:-1], regions, strict=True)]
    elements = functools.reduce(np.multiply.outer, lengths)
    return split.sum(within) / jnp.asarray(elements[..., None], split.dtype)


def _split(x: jax.Array, axis: int, regions: int, fill: float) -> jax.Array:
    """The axis as two: the regions, and the elements of each, those of the shorter ones filled up."""
    size = x.shape[axis]
    if size % regions == 0:
        return x.reshape(*x.shape[:axis], regions, size // regions, *x.shape[axis + 1 :])
    bounds = region_bounds(size, regions)
    longest = max(stop - start for start, stop in bounds)
    parts = []
    for start, stop in bounds:
        missing = [(0, longest - stop + start if a == axis else 0) for a in range(x.ndim)]
        parts.append(jnp.pad(lax.slice_in_dim(x, start, stop, axis=axis), missing, constant_values=fill))
    return jnp.stack(parts, axis)
