"""Recurrent layers: along a sequence, with a state. For sequences alone."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer

from cnnjax.layers.initialisers import uniform_by_inputs, zero_bias


class GRU(nn.Module):
    """A gated recurrent unit (Cho 2014) in PyTorch's form, with two biases for each gate. With x the input at a
    position, h the state before and s the logistic function,

        r = s(Wr x + br + Ur h + cr),  z = s(Wz x + bz + Uz h + cz),  n = tanh(Wn x + bn + r * (Un h + cn)),

    and the state becomes (1 - z) n + z h. It starts at 0.

    Parameters: `input/kernel` [C, 3 * features], the gates r, z and n one after another, and `input/bias`
    [3 * features]; `state/kernel` [features, 3 * features] and `state/bias`.

    Attributes:
      features: size of the state.
      reverse: whether the last position comes first.
      kernel_init: of both kernels, with biases of 0; None for PyTorch's default: kernels and biases uniform between
        -1 / sqrt(features) and 1 / sqrt(features).
    """

    features: int
    reverse: bool = False
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, W, C] to [N, W, features], the state at each position.

        Raises:
          ValueError: if x is not a batch of sequences.
        """
        del train
        if x.ndim != 3:
            raise ValueError(f"a recurrent layer needs a batch of sequences [N, W, C]; given {x.shape}")
        own_kernel, own_bias = _Affine(self.features, self.kernel_init, name="input")(x.shape[-1])
        kernel, bias = _Affine(self.features, self.kernel_init, name="state")(self.features)
        gates = x @ own_kernel + own_bias

        def step(h: jax.Array, gate: jax.Array) -> tuple[jax.Array, jax.Array]:
            own_r, own_z, own_n = jnp.split(gate, 3, axis=-1)
            r, z, n = jnp.split(h @ kernel + bias, 3, axis=-1)
            keep = nn.sigmoid(own_z + z)
            h = (1 - keep) * jnp.tanh(own_n + nn.sigmoid(own_r + r) * n) + keep * h
            return h, h

        start = jnp.zeros((x.shape[0], self.features), gates.dtype)
        _, states = lax.scan(step, start, gates.swapaxes(0, 1), reverse=self.reverse)
        return states.swapaxes(0, 1)


class _Affine(nn.Module):
    """The parameters of a dense layer to all three gates, for a loop that cannot create them."""

    features: int
    kernel_init: Initializer | None

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        shape = (inputs, 3 * self.features)
        if self.kernel_init is None:
            kernel = self.param("kernel", uniform_by_inputs, shape, self.features)
            return kernel, self.param("bias", uniform_by_inputs, shape[1:], self.features)
        return self.param("kernel", self.kernel_init, shape), self.param("bias", zero_bias, shape[1:], self.features)


class BidirectionalGRU(nn.Module):
    """A `GRU` from each end (`forward` and `backward`), their states side by side."""

    features: int
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """[N, W, C] to [N, W, 2 * features]."""
        forward = GRU(self.features, False, self.kernel_init, name="forward")(x, train=train)
        backward = GRU(self.features, True, self.kernel_init, name="backward")(x, train=train)
        return jnp.concatenate([forward, backward], axis=-1)
