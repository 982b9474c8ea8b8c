"""Pooling: a neighbourhood is replaced by a summary of it, in any number of spatial dimensions."""

from cnnjax.ops.pooling.adaptive import (
    Kind,
    adaptive_average_pool,
    adaptive_max_pool,
    global_average_pool,
    global_max_pool,
    spatial_pyramid,
)
from cnnjax.ops.pooling.averages import average_pool, l2_pool, lp_norm_pool, lp_pool
from cnnjax.ops.pooling.blur import binomial_kernel, blur_pool, max_blur_pool
from cnnjax.ops.pooling.extremes import max_pool
from cnnjax.ops.pooling.regions import (
    cluster_centres,
    cluster_means,
    dynamic_region_pool,
    grid_regions,
    nearest_centre,
    weighted_region_pool,
)
from cnnjax.ops.pooling.stochastic import expected_stochastic_pool, stochastic_pool
from cnnjax.ops.pooling.subsampling import subsample
from cnnjax.ops.pooling.weighted import distance_pool, gaussian_pool

__all__ = [
    "Kind",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "binomial_kernel",
    "blur_pool",
    "cluster_centres",
    "cluster_means",
    "distance_pool",
    "dynamic_region_pool",
    "expected_stochastic_pool",
    "gaussian_pool",
    "global_average_pool",
    "global_max_pool",
    "grid_regions",
    "l2_pool",
    "lp_norm_pool",
    "lp_pool",
    "max_blur_pool",
    "max_pool",
    "nearest_centre",
    "spatial_pyramid",
    "stochastic_pool",
    "subsample",
    "weighted_region_pool",
]
