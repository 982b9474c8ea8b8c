"""Pooling layers, by name: those of windows on a grid in `POOLS`, those of other regions in `REGION_POOLS`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax.layers.activations import NEVER_FALLING
from cnnjax.ops.borders import Border, extend
from cnnjax.ops.geometry import Padding
from cnnjax.ops.keys import example_keys
from cnnjax.ops.pooling import (
    Kind,
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    blur_pool,
    cluster_means,
    distance_pool,
    dynamic_region_pool,
    expected_stochastic_pool,
    gaussian_pool,
    global_average_pool,
    global_max_pool,
    grid_regions,
    l2_pool,
    lp_pool,
    max_blur_pool,
    max_pool,
    spatial_pyramid,
    stochastic_pool,
    subsample,
    weighted_region_pool,
)
from cnnjax.ops.pooling.windows import resolve_windows


def commutes(pool: str, act: str) -> bool:
    """Whether it is the same to pool before the detector: the greatest of detected values is the detected greatest."""
    return pool == "max" and act in NEVER_FALLING


class WindowPool(nn.Module):
    """A summary of each window.

    Attributes:
      summary: a function of `cnnjax.ops.pooling` that takes x, the window, `strides` and `padding`.
      window: the window's size along every spatial dimension of the input.
      strides: the same; the window when None.
      padding: see `cnnjax.ops.geometry.resolve_padding`.
      border: what the padding holds: the grid's mirror image (`reflect`), its other side (`circular`), or what the
        summary itself has there (`zeros`): nothing that could win or count, and behind a blur the mirror image.
    """

    summary: Callable[..., jax.Array]
    window: int
    strides: int | None = None
    padding: Padding = "valid"
    border: Border = "zeros"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        del train
        x, padding = _bordered(x, self.window, self.strides, self.padding, self.border)
        return self.summary(x, self.window, strides=self.strides, padding=padding)


class LpPool(nn.Module):
    """(mean of |x|^order)^(1 / order) of each window; the other attributes as in `WindowPool`."""

    window: int
    strides: int | None = None
    padding: Padding = "valid"
    border: Border = "zeros"
    order: float = 3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        del train
        x, padding = _bordered(x, self.window, self.strides, self.padding, self.border)
        return lp_pool(x, self.window, self.order, strides=self.strides, padding=padding)


class MaxBlurPool(nn.Module):
    """The greatest value of each window at stride 1, blurred before the stride (Zhang 2019).

    `blur` is the size of the blur's kernel, and its border is the mirror image unless `border` is `circular`. The other
    attributes as in `WindowPool`, with `same` padding that of stride 1.
    """

    window: int
    strides: int | None = None
    padding: Padding = "valid"
    border: Border = "zeros"
    blur: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        del train
        x, padding = _bordered(x, self.window, 1, self.padding, self.border)
        strides = self.window if self.strides is None else self.strides
        border: Border = "circular" if self.border == "circular" else "reflect"
        return max_blur_pool(x, self.window, strides=strides, padding=padding, blur=self.blur, border=border)


class StochasticPool(nn.Module):
    """One element of each window in training, drawn by its activation; their expectation otherwise (Zeiler 2013).

    Example i of the batch draws from the `dropout` key folded with i, counted over all devices, as in `Dropout`. What
    is negative is never drawn. The attributes as in `WindowPool`, and `axis_name`, the devices' axis in `jax.pmap`;
    None for one device.
    """

    window: int
    strides: int | None = None
    padding: Padding = "valid"
    border: Border = "zeros"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        x, padding = _bordered(x, self.window, self.strides, self.padding, self.border)
        if not train:
            return expected_stochastic_pool(x, self.window, strides=self.strides, padding=padding)
        keys = example_keys(self.make_rng("dropout"), x.shape[0], self.axis_name)
        return stochastic_pool(x, keys, self.window, strides=self.strides, padding=padding)


class NoPool(nn.Module):
    """All positions as they are."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The identity."""
        del train
        return x


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
        """[N, *spatial, C] to [N, regions, C]."""
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
        return pooled


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
        """[N, *spatial, C] to [N, grid**d, C]; the spatial sizes are always those of the first input."""
        del train
        regions = self.param("regions", lambda key: _grid_before_softplus(x.shape[1:-1], self.grid))
        return weighted_region_pool(x, jax.nn.softplus(regions))


def _grid_before_softplus(spatial: tuple[int, ...], grid: int) -> jax.Array:
    weights = grid_regions(spatial, grid)
    outside = weights[weights > 0].min() / 100
    return jnp.asarray(np.log(np.expm1(np.maximum(weights, outside))), jnp.float32)


def _bordered(
    x: jax.Array, window: int, strides: int | None, padding: Padding, border: Border
) -> tuple[jax.Array, Padding]:
    """The input with what the border holds, and the padding that is still to be added."""
    if border == "zeros":
        return x, padding
    return extend(x, resolve_windows(x, window, strides, padding).pads, border), "valid"


def _on_any_device(layer: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The layer, called with an `axis_name` that it has no use for."""

    def make(*settings: Any, axis_name: str | None = None, **fields: Any) -> nn.Module:
        del axis_name
        return layer(*settings, **fields)

    return make


def _no_pool(
    window: int, strides: int | None = None, padding: Padding = "valid", *, axis_name: str | None = None
) -> nn.Module:
    del window, strides, padding, axis_name
    return NoPool()


POOLS: dict[str, Callable[..., nn.Module]] = {
    "max": _on_any_device(functools.partial(WindowPool, max_pool)),
    "average": _on_any_device(functools.partial(WindowPool, average_pool)),
    "l2": _on_any_device(functools.partial(WindowPool, l2_pool)),
    "lp": _on_any_device(LpPool),
    "gaussian": _on_any_device(functools.partial(WindowPool, gaussian_pool)),
    "distance": _on_any_device(functools.partial(WindowPool, distance_pool)),
    "stochastic": StochasticPool,
    "blur": _on_any_device(functools.partial(WindowPool, blur_pool)),
    "max_blur": _on_any_device(MaxBlurPool),
    "stride": _on_any_device(functools.partial(WindowPool, subsample)),
    "none": _no_pool,
}
"""Each is called as POOLS[name](window, strides, padding, axis_name=...), with strides of the window and no padding
unless given, and further fields of its module by keyword. All but `none` leave the same number of positions."""

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
