"""Dropout whose mask depends on the example's place in the whole batch, not on the device that holds it."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.ops.keys import example_keys


class Dropout(nn.Module):
    """Sets each element to 0 with probability `rate`, and scales the rest by 1 / (1 - rate) (Srivastava 2014).

    Example i of the batch draws from the `dropout` key folded with i, counted over all devices: a batch spread over
    eight devices drops the same elements as on one.

    Attributes:
      rate: in [0, 1).
      axis_name: the devices' axis in `jax.pmap`; None for one device.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, ...] to the same shape; the identity when not training."""
        if not train or self.rate == 0:
            return x
        keys = example_keys(self.make_rng("dropout"), x.shape[0], self.axis_name)
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0)
