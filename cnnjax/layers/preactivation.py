"""Normalisation and detector before the convolution, not behind it (He, Zhang, Ren and Sun 2016b; Huang 2017)."""

import jax
from flax import linen as nn

from cnnjax.layers.activations import Activation


class PreActivation(nn.Module):
    """Normalisation, then the detector.

    Attributes:
      act: the detector.
      norm: None for none.
    """

    act: Activation
    norm: nn.Module | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to the same shape."""
        return self.act(x if self.norm is None else self.norm(x, train=train))


class PreActivatedConv(nn.Module):
    """Normalisation, detector, convolution: `cnnjax.layers.blocks.ConvBlock` the other way round.

    Attributes:
      conv: the convolution.
      act: the detector.
      norm: of the block's input; None for none.
    """

    conv: nn.Module
    act: Activation
    norm: nn.Module | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        if self.norm is not None:
            x = self.norm(x, train=train)
        return self.conv(self.act(x), train=train)
