"""The dense (fully connected) layer, on whatever shape it is given."""

import jax
from flax import linen as nn
from jax.nn.initializers import Initializer

from cnnjax.layers.initialisers import INITIALISERS


class Dense(nn.Module):
    """Flattens each example and multiplies it by a matrix.

    Parameters: `kernel` [inputs, features] and `bias` [features].
    """

    features: int
    kernel_init: Initializer = INITIALISERS["lecun"]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, ...] to [N, features]."""
        del train
        x = x.reshape(x.shape[0], -1)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        return x @ kernel + self.param("bias", nn.initializers.zeros_init(), (self.features,))
