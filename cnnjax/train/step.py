"""One training step and one evaluation batch, as each device runs them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from cnnjax.data.augmentation import Augmentation, augment
from cnnjax.data.feed import Feed, standardise
from cnnjax.filters.combination import combine
from cnnjax.filters.freezing import keep_frozen
from cnnjax.filters.plan import Flat, flatten, unflatten
from cnnjax.layers.auxiliary import AUXILIARY_LOGITS
from cnnjax.models.network import Network, run_stages
from cnnjax.train.devices import AXIS
from cnnjax.train.loss import cross_entropy, training_loss
from cnnjax.train.state import Sums, TrainState


class Keys(NamedTuple):
    """The streams of randomness of a run, each a function of its seed."""

    order: jax.Array
    augment: jax.Array
    dropout: jax.Array


@dataclasses.dataclass(frozen=True)
class Task:
    """What a step needs to know and does not change: the static part of a run's program.

    Attributes:
      model: the network, built with `axis_name=AXIS`.
      frozen_modules: paths of the modules that run as in evaluation; see `cnnjax.filters.freezing`.
      after: the stage whose cached output the feed holds; None for images.
      optimiser: for the trained parameters.
      batch_size, eval_batch_size: over all devices.
      mean, std: of the images' channels.
      augmentation: of the training examples.
      label_smoothing: of the training loss.
    """

    model: Network
    frozen_modules: frozenset[str]
    after: str | None
    optimiser: optax.GradientTransformation
    batch_size: int
    eval_batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    label_smoothing: float


def variables_of(params: Flat, stats: Flat) -> dict[str, dict]:
    """Flax's variables from flat parameters (banks multiplied by their matrices) and batch statistics."""
    return {"params": unflatten(combine(params)), "batch_stats": unflatten(stats)}


def train_step(
    task: Task,
    state: TrainState,
    frozen: tuple[Flat, Flat],
    feed: Feed,
    keys: Keys,
    shard: jax.Array,
    order: jax.Array,
) -> TrainState:
    """One step on this device's part of the batch; the result is the same on all devices.

    The loss that is lowered and summed up is `cnnjax.train.loss.training_loss`: it takes auxiliary heads in, but for
    those frozen whole, which do not run.

    Args:
      task: the static part.
      state: before the step.
      frozen: the parameters and batch statistics that stay.
      feed: all training examples.
      keys: of the run's seed.
      shard: the number of this device.
      order: the epoch's order of the examples.
    """
    batch = task.batch_size // lax.axis_size(AXIS)
    places = shard * batch + jnp.arange(batch)
    steps_per_epoch = len(order) // task.batch_size
    index = order[(state.step % steps_per_epoch) * task.batch_size + places]
    images, labels = feed.images[index], feed.labels[index]
    if task.augmentation.names:
        key = jax.random.fold_in(keys.augment, state.step)
        images = augment(images, key, places, task.augmentation)
    x = images if task.after else standardise(images, task.mean, task.std)

    def mean_loss(trained: Flat) -> tuple[jax.Array, tuple[jax.Array, Flat]]:
        with nn.intercept_methods(keep_frozen(task.frozen_modules)):
            logits, moved = task.model.apply(
                variables_of({**frozen[0], **trained}, {**frozen[1], **state.stats}),
                x,
                train=True,
                after=task.after,
                mutable=["batch_stats", AUXILIARY_LOGITS],
                rngs={"dropout": jax.random.fold_in(keys.dropout, state.step)},
            )
        stats = flatten(moved.get("batch_stats", {}))
        auxiliary = jax.tree.leaves(moved.get(AUXILIARY_LOGITS, {}))
        losses = training_loss(logits, auxiliary, labels, task.label_smoothing)
        return losses.mean(), (logits, {path: stats[path] for path in state.stats})

    (loss, (logits, stats)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.trained)
    gradient, stats = lax.pmean((gradient, stats), AXIS)
    updates, optimiser = task.optimiser.update(gradient, state.optimiser, state.trained)
    sums = Sums(loss * batch, jnp.sum(logits.argmax(-1) == labels, dtype=jnp.int32), jnp.int32(batch))
    return state._replace(
        step=state.step + 1,
        trained=optax.apply_updates(state.trained, updates),
        stats=stats,
        optimiser=optimiser,
        sums=state.sums.add(lax.psum(sums, AXIS)),
    )


def evaluate_batch(
    task: Task, params: Flat, stats: Flat, feed: Feed, first: jax.Array, end: jax.Array, shard: jax.Array
) -> Sums:
    """The sums over the examples `first`, `first + 1`, ... of one batch, those at `end` and behind not counted."""
    batch = task.eval_batch_size // lax.axis_size(AXIS)
    index = first + shard * batch + jnp.arange(batch)
    counted = index < end
    images, labels = feed.images[index], feed.labels[index]  # JAX clamps an index behind the last example
    x = images if task.after else standardise(images, task.mean, task.std)
    logits = run_stages(task.model, variables_of(params, stats), x, after=task.after)
    losses = jnp.where(counted, cross_entropy(logits, labels), 0)
    right = counted & (logits.argmax(-1) == labels)
    sums = Sums(losses.sum(), right.sum(dtype=jnp.int32), counted.sum(dtype=jnp.int32))
    return lax.psum(sums, AXIS)
