"""The dense (fully connected) layer, on whatever shape it is given."""

import jax
from flax import linen as nn
from jax.nn.initializers import Initializer

from cnnjax.layers.initialisers import INITIALISERS, BiasInitialiser, zero_bias


class Dense(nn.Module):
    """Flattens each example and multiplies it by a matrix.

    Parameters: `kernel` [inputs, features] and `bias` [features], whose starting values are `kernel_init` and
    `bias_init`.
    """

    features: int
    kernel_init: Initializer = INITIALISERS["lecun"]
    bias_init: BiasInitialiser = zero_bias

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, ...] to [N, features]."""
        del train
        x = x.reshape(x.shape[0], -1)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        return x @ kernel + self.param("bias", self.bias_init, (self.features,), x.shape[-1])
