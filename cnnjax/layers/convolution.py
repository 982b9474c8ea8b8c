"""Convolution layers. Each adds a bias for every feature map unless told not to."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer

from cnnjax.layers.initialisers import INITIALISERS, BiasInitialiser, zero_bias
from cnnjax.ops.borders import Border
from cnnjax.ops.convolution import correlate, correlate_transposed
from cnnjax.ops.geometry import Padding, per_dimension


class Conv(nn.Module):
    """Cross-correlation with a learned kernel.

    Parameters: `kernel` [*window, channels in / groups, features] and `bias` [features].

    Attributes:
      features: feature maps out.
      kernel_size: the window's size along every spatial dimension, one number for all or one each.
      strides, padding, dilation, groups, border, fill, exact: as in `cnnjax.ops.convolution.correlate`.
      use_bias: whether there is a bias; a norm behind the layer has its own.
      kernel_init: the kernel's starting value.
      bias_init: the bias's.
    """

    features: int
    kernel_size: int | tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: Padding = "same"
    dilation: int | tuple[int, ...] = 1
    groups: int = 1
    border: Border = "zeros"
    fill: float = 0.0
    exact: bool = False
    use_bias: bool = True
    kernel_init: Initializer = INITIALISERS["lecun"]
    bias_init: BiasInitialiser = zero_bias

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        del train
        window = per_dimension(self.kernel_size, x.ndim - 2, "kernel_size")
        seen = x.shape[-1] // self.groups
        kernel = self.param("kernel", self.kernel_init, (*window, seen, self.features))
        x = correlate(
            x,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            border=self.border,
            fill=self.fill,
            exact=self.exact,
        )
        if self.use_bias:
            x = x + self.param("bias", self.bias_init, (self.features,), math.prod(window) * seen)
        return x


class DepthwiseSeparableConv(nn.Module):
    """A kernel for each channel alone, then a 1x1 convolution that mixes them (Sifre 2014, Howard 2017).

    Parameters: `depthwise/kernel` [*window, 1, C], `pointwise/kernel` [1, ..., C, features] and `pointwise/bias`.
    Attributes as in `Conv`; all but the features and the bias are those of the kernels for each channel.
    """

    features: int
    kernel_size: int | tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: Padding = "same"
    dilation: int | tuple[int, ...] = 1
    border: Border = "zeros"
    use_bias: bool = True
    kernel_init: Initializer = INITIALISERS["lecun"]
    bias_init: BiasInitialiser = zero_bias

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        channels = x.shape[-1]
        x = Conv(
            channels,
            self.kernel_size,
            self.strides,
            self.padding,
            self.dilation,
            groups=channels,
            border=self.border,
            use_bias=False,
            kernel_init=self.kernel_init,
            name="depthwise",
        )(x, train=train)
        starts: dict[str, Any] = {"kernel_init": self.kernel_init, "bias_init": self.bias_init}
        mix = Conv(self.features, 1, use_bias=self.use_bias, **starts, name="pointwise")
        return mix(x, train=train)


class ConvTranspose(nn.Module):
    """Up-sampling by a learned kernel: the transpose of a convolution.

    Parameters: `kernel` [*window, channels in / groups, features] and `bias` [features].

    Attributes:
      features: feature maps out.
      kernel_size: the window's size, one number for all dimensions or one each.
      strides, padding, dilation, output_padding, groups: as in `cnnjax.ops.convolution.correlate_transposed`; the
        groups are of channels in and features alike.
      use_bias, kernel_init, bias_init: as in `Conv`.
    """

    features: int
    kernel_size: int | tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: Padding = "same"
    dilation: int | tuple[int, ...] = 1
    output_padding: int = 0
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = INITIALISERS["lecun"]
    bias_init: BiasInitialiser = zero_bias

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *positions, C] to [N, *spatial, features].

        Raises:
          ValueError: if the groups do not divide channels and features; and as `correlate_transposed` does.
        """
        del train
        if self.groups < 1 or x.shape[-1] % self.groups or self.features % self.groups:
            raise ValueError(f"{self.groups} groups must divide {x.shape[-1]} channels and {self.features} features")
        window = per_dimension(self.kernel_size, x.ndim - 2, "kernel_size")
        # The initialiser reads its fan-in from the last axis but one.
        seen = x.shape[-1] // self.groups
        kernel = self.param("kernel", self.kernel_init, (*window, seen, self.features))
        of_groups = jnp.split(kernel, self.groups, axis=-1)
        x = correlate_transposed(
            x,
            jnp.concatenate([part.swapaxes(-1, -2) for part in of_groups], axis=-1),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            output_padding=self.output_padding,
            groups=self.groups,
        )
        if self.use_bias:
            x = x + self.param("bias", self.bias_init, (self.features,), math.prod(window) * seen)
        return x
