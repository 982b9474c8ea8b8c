"""The convolution layer."""

import jax
from flax import linen as nn
from jax.nn.initializers import Initializer

from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.ops.convolution import correlate
from cnnjax.ops.geometry import Padding


class Conv(nn.Module):
    """Cross-correlation with a learned kernel, plus a bias for each feature map.

    Parameters: `kernel` [*window, channels in, features] and `bias` [features].

    Attributes:
      features: feature maps out.
      kernel_size: the window's size along every spatial dimension of the input.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: Padding = "same"
    use_bias: bool = True
    kernel_init: Initializer = INITIALISERS["lecun"]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, *spatial, C] to [N, *positions, features]."""
        del train
        window = (self.kernel_size,) * (x.ndim - 2)
        kernel = self.param("kernel", self.kernel_init, (*window, x.shape[-1], self.features))
        x = correlate(x, kernel, strides=self.strides, padding=self.padding)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return x
