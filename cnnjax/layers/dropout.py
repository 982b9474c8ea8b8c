"""Dropout whose mask depends on the example's place in the whole batch, not on the device that holds it."""

from collections.abc import Callable
from typing import Any

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
    def __call__(self, x: jax.Array, *, train: bool = False, share: float | jax.Array = 1.0) -> jax.Array:
        """[N, ...] to the same shape; the identity when not training. The rate is multiplied by `share`."""
        if not train or self.rate == 0:
            return x
        keys = example_keys(self.make_rng("dropout"), x.shape[0], self.axis_name)
        kept = 1 - share * self.rate
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, kept, x.shape[1:]))(keys)
        return jnp.where(keep, x / kept, 0)


def scale_dropout(share: jax.Array) -> Callable[..., Any]:
    """An interceptor for `flax.linen.intercept_methods`: the rates of all dropout multiplied by `share`."""

    def intercept(call: Any, arguments: Any, keywords: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, Dropout) and context.method_name == "__call__":
            keywords = {**keywords, "share": share}
        return call(*arguments, **keywords)

    return intercept
