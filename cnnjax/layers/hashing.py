"""The layers of PCANet (Chan and others 2015): one bank of filters for every map, and histograms of the signs."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.ops.coding import block_histograms, sign_codes


class EachChannel(nn.Module):
    """The same layer on every channel alone: the channels become examples of a batch, with one channel each.

    Parameters: those of the layer, under `layer`; a kernel there has one channel in.

    Attributes:
      layer: takes [N, *spatial, 1] to [N, *positions, features].
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, C * features]: all features of a channel together."""
        channels = x.shape[-1]
        x = jnp.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:-1], 1)
        x = self.layer(x, train=train)
        x = jnp.moveaxis(x.reshape(-1, channels, *x.shape[1:]), 1, -2)
        return x.reshape(*x.shape[:-2], -1)


class SignHistograms(nn.Module):
    """The signs of each `bits` successive channels as one number, and how often each occurs in every block. No gradient
    passes: a sign is flat wherever it has a slope.

    Attributes:
      bits: channels that make one number.
      window: a block's size along every spatial dimension; two neighbours overlap by half (rounded down).
    """

    bits: int
    window: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, maps * bits] to shares in [0, 1], [N, *blocks, maps * 2^bits]."""
        del train
        shares = block_histograms(sign_codes(x, self.bits), 2**self.bits, self.window, (self.window + 1) // 2)
        return shares.reshape(*shares.shape[:-2], -1)
