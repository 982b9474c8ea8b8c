"""One step of gradient descent on a network, for the tests of every family."""

from typing import Any

import jax
import numpy as np

from cnnjax.layers.auxiliary import AUXILIARY_LOGITS
from cnnjax.models.network import Network
from cnnjax.train.loss import training_loss
from tests.variables import drawn_variables


def losses_around_a_step(
    model: Network, input_shape: tuple[int, ...], *, classes: int, lr: float = 0.01
) -> tuple[float, float]:
    """The loss of a drawn batch [N, *spatial, C] before and after a step along its gradient, in training.

    It is the cross-entropy, and that of auxiliary heads at their weight.
    """
    x = np.random.default_rng(1).normal(size=input_shape).astype(np.float32)
    labels = np.arange(input_shape[0]) % classes
    variables = drawn_variables(model, input_shape)
    params = variables.pop("params")

    @jax.jit
    @jax.value_and_grad
    def loss(params: Any) -> jax.Array:
        logits, left = model.apply(
            {"params": params, **variables},
            x,
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=[*variables, AUXILIARY_LOGITS],
        )
        return training_loss(logits, jax.tree.leaves(left.get(AUXILIARY_LOGITS, {})), labels).mean()

    before, gradient = loss(params)
    after, _ = loss(jax.tree.map(lambda p, g: p - lr * g, params, gradient))
    return float(before), float(after)
