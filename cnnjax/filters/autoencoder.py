"""The sparse autoencoder: few hidden units at a time must do to reconstruct a patch (Ng 2011, Coates 2011)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.scipy.special import rel_entr

# Of Ng's exercise on autoencoders with a linear decoder, for whitened patches: the mean activation that each hidden
# unit is held to, and how strongly.
SPARSITY = 0.035
SPARSITY_WEIGHT = 5.0
WEIGHT_DECAY = 0.003

LEARNING_RATE = 0.003
BATCH_SIZE = 256
# Between two calls of `between` lies less than about a second on two cores.
PRODUCTS_IN_A_DISPATCH = 2**33


class Autoencoder(NamedTuple):
    """Hidden units sigmoid(vectors @ weights + bias), reconstruction hidden @ decoder + decoder_bias.

    Attributes:
      weights: [n, F] float32.
      bias: [F] float32.
      decoder: [F, n] float32.
      decoder_bias: [n] float32.
    """

    weights: jax.Array
    bias: jax.Array
    decoder: jax.Array
    decoder_bias: jax.Array


def hidden_units(autoencoder: Autoencoder, vectors: jax.Array) -> jax.Array:
    """The activations [M, F], between 0 and 1, for vectors [M, n]."""
    return jax.nn.sigmoid(vectors @ autoencoder.weights + autoencoder.bias)


def autoencoder_loss(autoencoder: Autoencoder, vectors: jax.Array) -> jax.Array:
    """What is minimised: half the mean squared length of the error, the decay of both weights, and the sparsity.

    The last is, summed over the units, the Kullback-Leibler divergence from a coin of probability `SPARSITY` to one of
    the unit's mean activation over the vectors [M, n].
    """
    hidden = hidden_units(autoencoder, vectors)
    error = hidden @ autoencoder.decoder + autoencoder.decoder_bias - vectors
    decay = jnp.sum(jnp.square(autoencoder.weights)) + jnp.sum(jnp.square(autoencoder.decoder))
    activity = jnp.clip(jnp.mean(hidden, axis=0), 1e-6, 1 - 1e-6)
    divergence = jnp.sum(rel_entr(SPARSITY, activity) + rel_entr(1 - SPARSITY, 1 - activity))
    squares = jnp.sum(jnp.square(error)) / len(vectors)
    return squares / 2 + WEIGHT_DECAY / 2 * decay + SPARSITY_WEIGHT * divergence


def initial_autoencoder(key: jax.Array, inputs: int, filters: int) -> Autoencoder:
    """Uniform weights as in Ng's exercise; the hidden units' bias is what makes an input of 0 as active as wanted."""
    bound = math.sqrt(6 / (inputs + filters + 1))
    encoder_key, decoder_key = jax.random.split(key)
    return Autoencoder(
        jax.random.uniform(encoder_key, (inputs, filters), minval=-bound, maxval=bound),
        jnp.full(filters, math.log(SPARSITY / (1 - SPARSITY)), jnp.float32),
        jax.random.uniform(decoder_key, (filters, inputs), minval=-bound, maxval=bound),
        jnp.zeros(inputs),
    )


def sparse_autoencoder(
    key: jax.Array, vectors: jax.Array, filters: int, iterations: int, between: Callable[[float], None]
) -> Autoencoder:
    """An autoencoder of so many hidden units, fitted by Adam on small batches.

    Args:
      key: of the starting weights and of the order of the vectors.
      vectors: [M, n] float32, whitened: of variance about 1.
      filters: hidden units.
      iterations: passes over the vectors.
      between: called after each dispatch with the share done, up to 1; it may raise to stop.
    """
    start_key, order_key = jax.random.split(key)
    state = initial_autoencoder(start_key, vectors.shape[1], filters)
    memory = optax.adam(LEARNING_RATE).init(state)
    at_once = max(1, PRODUCTS_IN_A_DISPATCH // (6 * vectors.size * filters))
    for first in range(0, iterations, at_once):
        last = min(first + at_once, iterations)
        state, memory = jax.block_until_ready(_passes(order_key, vectors, state, memory, first, last))
        between(last / iterations)
    return state


@jax.jit
def _passes(
    key: jax.Array, vectors: jax.Array, start: Autoencoder, memory: optax.OptState, first: int, last: int
) -> tuple[Autoencoder, optax.OptState]:
    """The passes from `first` to before `last`, each in an order of its own; the last, smaller batch is left out."""
    size = min(BATCH_SIZE, len(vectors))
    batches = len(vectors) // size
    State = tuple[Autoencoder, optax.OptState]

    def step(state: State, rows: jax.Array) -> tuple[State, None]:
        autoencoder, memory = state
        gradient = jax.grad(autoencoder_loss)(autoencoder, vectors[rows])
        change, memory = optax.adam(LEARNING_RATE).update(gradient, memory)
        return (optax.apply_updates(autoencoder, change), memory), None

    def one_pass(index: jax.Array, state: State) -> State:
        order = jax.random.permutation(jax.random.fold_in(key, index), len(vectors))
        return lax.scan(step, state, order[: batches * size].reshape(batches, size))[0]

    return lax.fori_loop(first, last, one_pass, (start, memory))
