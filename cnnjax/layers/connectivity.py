"""Layers between the grids of a convolution without its weight sharing, or without its locality too.

Both hold every convolution of the same settings, exactly: start as one and see where training goes (d'Ascoli and
others 2019, "Finding the needle in the haystack with convolutions"; Neyshabur 2020, "Towards learning convolutions from
scratch").
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.nn.initializers import Initializer

from cnnjax.layers.initialisers import INITIALISERS, BiasInitialiser, zero_bias
from cnnjax.ops.borders import Border
from cnnjax.ops.geometry import Padding, per_dimension, place_windows
from cnnjax.ops.local import correlate_unshared, embed_in_dense, unshare
from cnnjax.ops.toeplitz import constant_term


class LocalConv(nn.Module):
    """A locally connected layer: a convolution with a kernel and bias of its own for each position.

    Parameters: `kernel` [*positions, *window, channels in / groups, features] and `bias` [*positions, features]. They
    fix the size of the input.

    Attributes:
      features: feature maps out.
      kernel_size: the window's size, one for every spatial dimension of the input or one each.
      strides, padding, dilation, groups, border, fill: as in `cnnjax.ops.convolution.correlate`.
      use_bias: whether there is a bias.
      kernel_init: draws the kernel of each position independently, as it would the one of a convolution: for the same
        fan-in, the elements of one window.
      bias_init: draws the biases, for the same fan-in.
    """

    features: int
    kernel_size: int | tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: Padding = "same"
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    border: Border = "zeros"
    fill: float = 0.0
    use_bias: bool = True
    kernel_init: Initializer = INITIALISERS["lecun"]
    bias_init: BiasInitialiser = zero_bias

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        del train
        window = per_dimension(self.kernel_size, x.ndim - 2, "kernel_size")
        positions = place_windows(
            x.shape[1:-1], window, strides=self.strides, padding=self.padding, dilation=self.dilation
        ).positions
        channels = x.shape[-1] // self.groups

        def draw(key: jax.Array) -> jax.Array:
            keys = jax.random.split(key, math.prod(positions))
            kernels = jax.vmap(lambda key: self.kernel_init(key, (*window, channels, self.features)))(keys)
            return kernels.reshape(*positions, *kernels.shape[1:])

        x = correlate_unshared(
            x,
            self.param("kernel", draw),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            border=self.border,
            fill=self.fill,
        )
        if self.use_bias:
            x = x + self.param("bias", self.bias_init, (*positions, self.features), math.prod(window) * channels)
        return x


class DenseConv(nn.Module):
    """A dense layer between the grids of a convolution: every output sees all of the input.

    Parameters: `kernel` [prod(spatial) * channels in, prod(positions) * features] and `bias` [*positions, features].
    They fix the size of the input.

    Attributes:
      features: feature maps out.
      kernel_size: as are `strides`, `padding` and `dilation`, of the convolution whose grid of positions this layer
        has; they do not limit what an output sees.
      use_bias: whether there is a bias.
      kernel_init: draws the whole matrix at once: its fan-in is all of the input.
      bias_init: draws the biases, for the same fan-in.
    """

    features: int
    kernel_size: int | tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: Padding = "same"
    dilation: int | tuple[int, ...] = 1
    use_bias: bool = True
    kernel_init: Initializer = INITIALISERS["lecun"]
    bias_init: BiasInitialiser = zero_bias

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        del train
        window = per_dimension(self.kernel_size, x.ndim - 2, "kernel_size")
        windows = place_windows(
            x.shape[1:-1], window, strides=self.strides, padding=self.padding, dilation=self.dilation
        )
        grid = (*windows.positions, self.features)
        kernel = self.param("kernel", self.kernel_init, (math.prod(x.shape[1:]), math.prod(grid)))
        x = (x.reshape(x.shape[0], -1) @ kernel).reshape(-1, *grid)
        if self.use_bias:
            x = x + self.param("bias", self.bias_init, grid, len(kernel))
        return x


def local_from_convolution(
    kernel: jax.Array,
    bias: jax.Array | None,
    spatial: Sequence[int],
    *,
    strides: int | tuple[int, ...] = 1,
    padding: Padding = "same",
    dilation: int | tuple[int, ...] = 1,
) -> dict[str, jax.Array]:
    """The parameters of the `LocalConv` that equals a convolution of the same groups, border and fill.

    Args:
      kernel: [*window, C / groups, F].
      bias: [F], or None for a layer without.
      spatial: the input's grid.
      strides, padding, dilation: of both layers.

    Raises:
      ValueError: if the kernel is not of as many dimensions as the grid, or the window does not fit once.
    """
    windows = place_windows(spatial, kernel.shape[:-2], strides=strides, padding=padding, dilation=dilation)
    started = {"kernel": unshare(kernel, windows.positions)}
    return started if bias is None else started | {"bias": unshare(bias, windows.positions)}


def dense_from_convolution(
    kernel: jax.Array,
    bias: jax.Array | None,
    spatial: Sequence[int],
    *,
    strides: int | tuple[int, ...] = 1,
    padding: Padding = "same",
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    border: Border = "zeros",
    fill: float = 0.0,
) -> dict[str, jax.Array]:
    """The parameters of the `DenseConv` that equals a convolution.

    Arguments and errors as in `local_from_convolution`, and

    Args:
      groups, border, fill: of the convolution; the dense layer has them in its weights, what a constant border adds in
        its bias.

    Raises:
      ValueError: for a constant border and no bias that could hold it.
    """
    if fill and bias is None:
        raise ValueError(f"a border of {fill} needs a bias; this layer has none")
    placement: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
    matrix = embed_in_dense(kernel, spatial, **placement, groups=groups, border=border)
    if bias is None:
        return {"kernel": matrix}
    return {"kernel": matrix, "bias": bias + constant_term(kernel, spatial, fill, **placement)}
