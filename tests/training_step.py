"""One step of gradient descent on a network, for the tests of every family."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.network import Network
from tests.variables import drawn_variables


def losses_around_a_step(
    model: Network, input_shape: tuple[int, ...], *, classes: int, lr: float = 0.01
) -> tuple[float, float]:
    """The cross-entropy of a drawn batch [N, *spatial, C] before and after a step along its gradient, in training."""
    x = np.random.default_rng(1).normal(size=input_shape).astype(np.float32)
    labels = np.arange(input_shape[0]) % classes
    variables = drawn_variables(model, input_shape)
    params = variables.pop("params")

    @jax.jit
    @jax.value_and_grad
    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(
            {"params": params, **variables},
            x,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=list(variables),
        )
        return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    before, gradient = loss(params)
    after, _ = loss(jax.tree.map(lambda p, g: p - lr * g, params, gradient))
    return float(before), float(after)
