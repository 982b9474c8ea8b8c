"""The numbers of a run that change no shape: inputs of its program, so that runs that differ in them alone share it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cnnjax.config import Config, OptimConfig, TrainConfig

# What stands in a program's config for a number that is not 0, and for the dropout rate of its network.
_SOME = 0.5


class Hyperparameters(NamedTuple):
    """Scalars, float32 where not said otherwise; each is described at its field of `cnnjax.config`.

    Attributes:
      lr, momentum, weight_decay, clip, label_smoothing, step_factor: of `optim`.
      steps: int32, of the whole run.
      warmup: int32, steps.
      step_at: int32 [K], the steps at which the rate falls.
      dropout: what the rates of the program's network are multiplied by.
      strength: of the augmentation.
    """

    lr: jax.Array
    momentum: jax.Array
    weight_decay: jax.Array
    clip: jax.Array
    label_smoothing: jax.Array
    step_factor: jax.Array
    steps: jax.Array
    warmup: jax.Array
    step_at: jax.Array
    dropout: jax.Array
    strength: jax.Array


def hyperparameters(config: Config, steps: int) -> Hyperparameters:
    """Those of a run of so many steps."""
    optim = config.optim
    names = ("lr", "momentum", "weight_decay", "clip", "label_smoothing", "step_factor")
    return Hyperparameters(
        **{name: jnp.float32(getattr(optim, name)) for name in names},
        steps=jnp.int32(steps),
        warmup=jnp.int32(round(optim.warmup * steps)),
        step_at=jnp.asarray([round(share * steps) for share in optim.step_at], jnp.int32),
        dropout=jnp.float32(config.model.dropout / _SOME if config.model.dropout else 1.0),
        strength=jnp.float32(config.data.strength),
    )


def program_config(config: Config) -> Config:
    """The config whose program runs this one's steps: all numbers that are its inputs put to the same values.

    A 0 stays, where without the number there is less to do: no momentum, no decay, no clipping, no dropout.
    """
    optim: dict[str, Any] = dataclasses.asdict(OptimConfig())
    for name in ("name", "nesterov", "schedule"):
        optim[name] = getattr(config.optim, name)
    for name in ("momentum", "weight_decay", "clip", "label_smoothing"):
        optim[name] = _SOME if getattr(config.optim, name) else 0.0
    optim["step_at"] = (_SOME,) * len(config.optim.step_at)
    once = TrainConfig()
    train = dataclasses.replace(
        config.train, epochs=once.epochs, eval_every=once.eval_every, save_every=once.save_every
    )
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, dropout=_SOME) if config.model.dropout else config.model,
        data=dataclasses.replace(config.data, strength=_SOME),
        optim=OptimConfig(**optim),
        train=train,
    )
