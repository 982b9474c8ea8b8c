"""Blocks: the layers that always come together."""

import jax
from flax import linen as nn

from cnnjax.layers.activations import Activation


class ConvBlock(nn.Module):
    """A layer of a CNN as the lectures draw it: convolution, normalisation, detector, pooling.

    Attributes:
      conv: the convolution.
      norm: between convolution and detector; None for none.
      act: the detector.
      pool: the last step; None for none.
      pool_first: whether to pool before the detector, which is faster: the detector then meets fewer elements. For
        pairs where that changes nothing (`cnnjax.layers.pooling.commutes`).
    """

    conv: nn.Module
    act: Activation
    norm: nn.Module | None = None
    pool: nn.Module | None = None
    pool_first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        x = self.conv(x, train=train)
        if self.norm is not None:
            x = self.norm(x, train=train)
        if self.pool is None:
            return self.act(x)
        if self.pool_first:
            return self.act(self.pool(x, train=train))
        return self.pool(self.act(x), train=train)


class DenseBlock(nn.Module):
    """A dense layer, normalisation, where there is one, and the detector."""

    dense: nn.Module
    act: Activation
    norm: nn.Module | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, ...] to [N, features]."""
        x = self.dense(x, train=train)
        return self.act(x if self.norm is None else self.norm(x, train=train))
