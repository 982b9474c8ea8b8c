"""Detectors: the elementwise nonlinearities, by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn


def identity(x: jax.Array) -> jax.Array:
    """No nonlinearity: the network is linear."""
    return x


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "elu": nn.elu,
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
    "gelu": nn.gelu,
    "abs": jnp.abs,
    "identity": identity,
}

NEVER_FALLING = frozenset({"relu", "leaky_relu", "elu", "sigmoid", "tanh", "identity"})
"""Those for which a greater input never gives a smaller output."""
