"""The Optax optimiser that the config describes, its numbers given as arrays."""

import functools

import jax
import jax.numpy as jnp
import optax

from cnnjax.config import OptimConfig
from cnnjax.filters.plan import Flat, is_kernel
from cnnjax.train.hyperparameters import Hyperparameters


@functools.partial(jax.jit, static_argnums=0, inline=True)
def learning_rate(config: OptimConfig, numbers: Hyperparameters, step: jax.Array) -> jax.Array:
    """The rate of a step (int32, from 0): a linear warm-up from 0, then the named schedule to the end of `steps`.

    Optax's schedules take their lengths as Python numbers; here runs of different lengths share a program.

    Args:
      config: whose `schedule` is read.
      numbers: of the run.
    """
    if config.schedule == "constant":
        factor = jnp.float32(1)
    elif config.schedule == "cosine":
        length = jnp.maximum(numbers.steps - numbers.warmup, 1)
        share = jnp.clip(step - numbers.warmup, 0, length) / length
        factor = (1 + jnp.cos(jnp.pi * share)) / 2
    else:
        factor = numbers.step_factor ** jnp.sum(step >= numbers.step_at)
    rising = step / jnp.maximum(numbers.warmup, 1)
    return numbers.lr * jnp.where(step < numbers.warmup, rising, factor)


def make_optimiser(config: OptimConfig, numbers: Hyperparameters) -> optax.GradientTransformation:
    """Clipping, weight decay of the kernels alone, and the named rule, in this order (decay last for `adamw`).

    Args:
      config: the rule and schedule; of its numbers it is read whether they are 0.
      numbers: of the run.
    """

    def rate(step: jax.Array) -> jax.Array:
        return learning_rate(config, numbers, step)

    clip = optax.clip_by_global_norm(numbers.clip) if config.clip else optax.identity()
    decay = optax.add_decayed_weights(numbers.weight_decay, mask=_kernels) if config.weight_decay else optax.identity()
    if config.name == "sgd":
        momentum = numbers.momentum if config.momentum else None
        return optax.chain(clip, decay, optax.sgd(rate, momentum=momentum, nesterov=config.nesterov))
    if config.name == "adam":
        return optax.chain(clip, decay, optax.adam(rate))
    return optax.chain(clip, optax.adamw(rate, weight_decay=numbers.weight_decay, mask=_kernels))


def _kernels(params: Flat) -> dict[str, bool]:
    return {path: is_kernel(path) for path in params}
