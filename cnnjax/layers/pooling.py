"""Pooling layers of windows on a grid, by name; those of other regions are in `cnnjax.layers.region_pooling`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from cnnjax.config import RequestError, choose
from cnnjax.layers.activations import NEVER_FALLING
from cnnjax.layers.region_pooling import REGION_POOLS
from cnnjax.ops.borders import Border, extend
from cnnjax.ops.geometry import Padding
from cnnjax.ops.keys import example_keys
from cnnjax.ops.pooling import (
    average_pool,
    blur_pool,
    distance_pool,
    expected_stochastic_pool,
    gaussian_pool,
    l2_pool,
    lp_norm_pool,
    lp_pool,
    max_blur_pool,
    max_pool,
    stochastic_pool,
    subsample,
)
from cnnjax.ops.pooling.windows import pooling_windows


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
      exact: whether the windows must fit without a rest; a ValueError says what is left over otherwise.
    """

    summary: Callable[..., jax.Array]
    window: int | tuple[int, ...]
    strides: int | tuple[int, ...] | None = None
    padding: Padding = "valid"
    border: Border = "zeros"
    exact: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        del train
        x, padding = _bordered(x, self.window, self.strides, self.padding, self.border)
        return self.summary(x, self.window, strides=self.strides, padding=padding, exact=self.exact)


class LpPool(nn.Module):
    """(mean of |x|^order)^(1 / order) of each window; the other attributes as in `WindowPool`."""

    window: int | tuple[int, ...]
    strides: int | tuple[int, ...] | None = None
    padding: Padding = "valid"
    border: Border = "zeros"
    exact: bool = False
    order: float = 3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        del train
        x, padding = _bordered(x, self.window, self.strides, self.padding, self.border)
        return lp_pool(x, self.window, self.order, strides=self.strides, padding=padding, exact=self.exact)


class MaxBlurPool(nn.Module):
    """The greatest value of each window at stride 1, blurred before the stride (Zhang 2019).

    `blur` is the size of the blur's kernel, and its border is the mirror image unless `border` is `circular`. The other
    attributes as in `WindowPool`, with `same` padding that of stride 1.
    """

    window: int | tuple[int, ...]
    strides: int | tuple[int, ...] | None = None
    padding: Padding = "valid"
    border: Border = "zeros"
    exact: bool = False
    blur: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        del train
        x, padding = _bordered(x, self.window, 1, self.padding, self.border)
        strides = self.window if self.strides is None else self.strides
        border: Border = "circular" if self.border == "circular" else "reflect"
        return max_blur_pool(
            x, self.window, strides=strides, padding=padding, exact=self.exact, blur=self.blur, border=border
        )


class StochasticPool(nn.Module):
    """One element of each window in training, drawn by its activation; their expectation otherwise (Zeiler 2013).

    Example i of the batch draws from the `dropout` key folded with i, counted over all devices, as in `Dropout`. What
    is negative is never drawn. The attributes as in `WindowPool`, and `axis_name`, the devices' axis in `jax.pmap`;
    None for one device.
    """

    window: int | tuple[int, ...]
    strides: int | tuple[int, ...] | None = None
    padding: Padding = "valid"
    border: Border = "zeros"
    exact: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C]."""
        x, padding = _bordered(x, self.window, self.strides, self.padding, self.border)
        if not train:
            return expected_stochastic_pool(x, self.window, strides=self.strides, padding=padding, exact=self.exact)
        keys = example_keys(self.make_rng("dropout"), x.shape[0], self.axis_name)
        return stochastic_pool(x, keys, self.window, strides=self.strides, padding=padding, exact=self.exact)


class NoPool(nn.Module):
    """All positions as they are."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The identity."""
        del train
        return x


def _bordered(
    x: jax.Array, window: int | tuple[int, ...], strides: int | tuple[int, ...] | None, padding: Padding, border: Border
) -> tuple[jax.Array, Padding]:
    """The input with what the border holds, and the padding that is still to be added."""
    if border == "zeros":
        return x, padding
    return extend(x, pooling_windows(x, window, strides, padding, exact=False).padding, border), "valid"


def _on_any_device(layer: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The layer, called with an `axis_name` that it has no use for."""

    def make(*settings: Any, axis_name: str | None = None, **fields: Any) -> nn.Module:
        del axis_name
        return layer(*settings, **fields)

    return make


def _no_pool(
    window: int | tuple[int, ...],
    strides: int | tuple[int, ...] | None = None,
    padding: Padding = "valid",
    *,
    axis_name: str | None = None,
) -> nn.Module:
    del window, strides, padding, axis_name
    return NoPool()


POOLS: dict[str, Callable[..., nn.Module]] = {
    "max": _on_any_device(functools.partial(WindowPool, max_pool)),
    "average": _on_any_device(functools.partial(WindowPool, average_pool)),
    "l2": _on_any_device(functools.partial(WindowPool, l2_pool)),
    "l2_norm": _on_any_device(functools.partial(WindowPool, functools.partial(lp_norm_pool, order=2))),
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


def choose_window_pool(name: str) -> Callable[..., nn.Module]:
    """`POOLS[name]`.

    Raises:
      RequestError: for another name, one of `REGION_POOLS` among them.
    """
    if name in REGION_POOLS:
        raise RequestError(
            f"pool {name!r} is of regions, which only a convnet takes, in its last stage; there are: {', '.join(POOLS)}"
        )
    return choose(POOLS, name, "pool")
