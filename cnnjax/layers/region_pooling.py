"""Pooling layers whose regions are no windows on a grid, by name: features of a fixed size from inputs of any."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax.ops.pooling import (
    Kind,
    adaptive_average_pool,
    adaptive_max_pool,
    cluster_means,
    dynamic_region_pool,
    global_average_pool,
    global_max_pool,
    grid_regions,
    spatial_pyramid,
    weighted_region_pool,
)


class GlobalPool(nn.Module):
    """The summary of each channel over all positions: `global_average_pool` or `global_max_pool`."""

    summary: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, C]."""
        del train
        return self.summary(x)


class AdaptivePool(nn.Module):
    """Pooling to `size` positions, one number or one each dimension, whatever the input's.

    `summary` is `adaptive_average_pool` or `adaptive_max_pool`.
    """

    summary: Callable[..., jax.Array]
    size: int | Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *size, C]."""
        del train
        return self.summary(x, self.size)


class SpatialPyramid(nn.Module):
    """Adaptive pooling at each of `levels`, side by side: features of a fixed size. `kind` is `average` or `max`."""

    levels: Sequence[int] = (1, 2)
    kind: Kind = "average"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, sum of levels**d * C]."""
        del train
        return spatial_pyramid(x, self.levels, self.kind)


class DynamicRegionPool(nn.Module):
    """Positions pooled with those whose features are alike (Boureau 2011): other regions in each image.

    The `centres` [regions, C] are statistics, as those of batch norm are (`batch_stats`): drawn from a standard normal
    distribution, and moved in training towards the means of the features nearest to them (k-means by mini-batches).
    `cnnjax.ops.pooling.cluster_centres` finds them at once among given features, as the paper does.

    Attributes:
      regions: how many.
      kind: the summary of a region, `average` or `max`.
      momentum: the share of a centre that a step keeps.
      axis_name: the devices' axis in `jax.pmap`; None for one device.
    """

    regions: int
    kind: Kind = "average"
    momentum: float = 0.9
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, regions * C]: a region is no place on a grid."""
        shape = (self.regions, x.shape[-1])
        centres = self.variable(
            "batch_stats", "centres", lambda: jax.random.normal(self.make_rng("params"), shape, jnp.float32)
        )
        pooled = dynamic_region_pool(x, centres.value, self.kind)
        if train and not self.is_initializing():
            sums, counts = cluster_means(jax.lax.stop_gradient(x), centres.value)
            if self.axis_name is not None:
                sums, counts = jax.lax.psum((sums, counts), self.axis_name)
            met = counts[:, None] > 0
            means = jnp.where(met, sums / jnp.maximum(counts, 1)[:, None], centres.value)
            centres.value = self.momentum * centres.value + (1 - self.momentum) * means
        return pooled.reshape(len(x), -1)


class LearnedRegionPool(nn.Module):
    """Sums over positions with learned weights, the same for all images and channels (Jia 2012).

    The weights are the softplus of the parameter `regions` [grid**d, *spatial]. They start near the means over the
    boxes of a regular grid: what is outside a box has a hundredth of the least weight inside. A ReLU would keep them
    from being negative too, but one that starts at 0 has no gradient, and no region could ever grow.

    Attributes:
      grid: boxes along each dimension; 2 for the quadrants.
    """

    grid: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, grid**d * C]; the spatial sizes are always those of the first input."""
        del train
        regions = self.param("regions", lambda key: _grid_before_softplus(x.shape[1:-1], self.grid))
        return weighted_region_pool(x, jax.nn.softplus(regions)).reshape(len(x), -1)


def _grid_before_softplus(spatial: tuple[int, ...], grid: int) -> jax.Array:
    weights = grid_regions(spatial, grid)
    outside = weights[weights > 0].min() / 100
    return jnp.asarray(np.log(np.expm1(np.maximum(weights, outside))), jnp.float32)


REGION_POOLS: dict[str, Callable[..., nn.Module]] = {
    "global_average": functools.partial(GlobalPool, global_average_pool),
    "global_max": functools.partial(GlobalPool, global_max_pool),
    "adaptive_average": functools.partial(AdaptivePool, adaptive_average_pool),
    "adaptive_max": functools.partial(AdaptivePool, adaptive_max_pool),
    "pyramid": SpatialPyramid,
    "dynamic": DynamicRegionPool,
    "learned": LearnedRegionPool,
}
"""Each is called with the fields of its module that are still open."""


def region_pool(name: str, size: int, axis_name: str | None = None) -> nn.Module:
    """A pool of `REGION_POOLS` that has its regions from one number.

    Args:
      name: a key of `REGION_POOLS`.
      size: of the adaptive pools the positions along each dimension; of the pyramid its levels from 1 to that;
        of the learned regions the boxes along each dimension, and of the dynamic ones their number is the square of it.
        The global pools have no use for it.
      axis_name: the devices' axis in `jax.pmap`; None for one device.
    """
    fields: dict[str, dict[str, Any]] = {
        "adaptive_average": {"size": size},
        "adaptive_max": {"size": size},
        "pyramid": {"levels": tuple(range(1, size + 1))},
        "dynamic": {"regions": size**2, "axis_name": axis_name},
        "learned": {"grid": size},
    }
    return REGION_POOLS[name](**fields.get(name, {}))
