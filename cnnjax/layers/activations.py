"""Detectors: the elementwise nonlinearities, by name."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

Activation = Callable[[jax.Array], jax.Array]


def identity(x: jax.Array) -> jax.Array:
    """No nonlinearity: the network is linear."""
    return x


def gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x), with the normal distribution function Phi itself (Hendrycks and Gimpel 2016).

    As PyTorch computes it by default; Flax's default is an approximation by tanh, off by up to 5e-4.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[str, Activation] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "elu": nn.elu,
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
    "gelu": gelu,
    "abs": jnp.abs,
    "identity": identity,
}
"""With PyTorch's constants: leaky ReLU's slope below 0 is 0.01, ELU's alpha is 1. `abs` is the rectification of
Jarrett 2009."""

NEVER_FALLING = frozenset({"relu", "leaky_relu", "elu", "sigmoid", "tanh", "identity"})
"""Those for which a greater input never gives a smaller output."""
