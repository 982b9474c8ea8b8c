"""One training step and one evaluation batch, as each device runs them."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from cnnjax.config import OptimConfig
from cnnjax.data.augmentation import Augmentation, augment
from cnnjax.data.feed import Feed, standardise
from cnnjax.filters.combination import combine
from cnnjax.filters.freezing import keep_frozen
from cnnjax.filters.plan import Flat, flatten, unflatten
from cnnjax.layers.auxiliary import AUXILIARY_LOGITS
from cnnjax.layers.dropout import scale_dropout
from cnnjax.models.network import Network
from cnnjax.train.devices import axis_size, mean_over, sum_over
from cnnjax.train.forward import Precision, logits_in_evaluation, logits_in_training
from cnnjax.train.hyperparameters import Hyperparameters
from cnnjax.train.loss import cross_entropy, training_loss
from cnnjax.train.optimiser import make_optimiser
from cnnjax.train.state import Sums, TrainState


class Keys(NamedTuple):
    """The streams of randomness of a run, each a function of its seed."""

    order: jax.Array
    augment: jax.Array
    dropout: jax.Array


class Inputs(NamedTuple):
    """What the steps of a run read and leave as it is.

    Attributes:
      frozen: the parameters and batch statistics that stay, by path.
      train: the training examples; those of a window of steps where they are too many for the device.
      held_out: those of the validation split, and behind them those of the test split; likewise.
      keys: of the run's seed.
      numbers: of the run.
    """

    frozen: tuple[Flat, Flat]
    train: Feed
    held_out: Feed
    keys: Keys
    numbers: Hyperparameters


@dataclasses.dataclass(frozen=True)
class Task:
    """What a step needs to know and does not change: the static part of a run's program.

    Attributes:
      axis: that the batch is spread over; None for a device that has a run to itself.
      model: the network, built with this axis.
      frozen_modules: paths of the modules that run as in evaluation; see `cnnjax.filters.freezing`.
      after: the stage whose cached output the feed holds; None for images.
      optim: the rule and schedule for the trained parameters; its numbers are inputs.
      batch_size, eval_batch_size: over all devices.
      mean, std: of the images' channels.
      augmentation: of the training examples.
      accumulate: in how many parts a device computes its share of a batch, one after another.
      precision, remat: see `cnnjax.train.forward`.
      deterministic: whether a GPU is kept to operations that give the same bits each time.
    """

    axis: str | None
    model: Network
    frozen_modules: frozenset[str]
    after: str | None
    optim: OptimConfig
    batch_size: int
    eval_batch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    accumulate: int = 1
    precision: Precision = "float32"
    remat: bool = False
    deterministic: bool = False


def variables_of(params: Flat, stats: Flat) -> dict[str, dict]:
    """Flax's variables from flat parameters (banks multiplied by their matrices) and batch statistics."""
    return {"params": unflatten(combine(params)), "batch_stats": unflatten(stats)}


def train_step(task: Task, state: TrainState, inputs: Inputs, shard: jax.Array | int, order: jax.Array) -> TrainState:
    """One step on this device's part of the batch; the result is the same on all devices.

    The loss that is lowered and summed up is `cnnjax.train.loss.training_loss`: it takes auxiliary heads in, but for
    those frozen whole, which do not run.

    Args:
      task: the static part.
      state: before the step.
      inputs: of the run.
      shard: the number of this device on the axis.
      order: the epoch's, or the window's, order of the examples.

    Raises:
      ValueError: if the devices and the parts do not divide the batch.
    """
    numbers = inputs.numbers
    share = _share("batch_size", task.batch_size, task.axis, task.accumulate)
    gradient_of = jax.value_and_grad(functools.partial(_mean_loss, task, inputs), has_aux=True)

    def part(number: jax.Array | int, stats: Flat) -> tuple[Flat, Flat, Sums]:
        """The gradient of one part of this device's share of the batch, the statistics after it, and its sums."""
        size = share // task.accumulate
        places = shard * share + number * size + jnp.arange(size)
        batch = _batch(task, inputs, state.step, order, places)
        dropout = jax.random.fold_in(inputs.keys.dropout, state.step)
        dropout = dropout if task.accumulate == 1 else jax.random.fold_in(dropout, number)
        (loss, (correct, stats)), gradient = gradient_of(state.trained, stats, *batch, dropout)
        return gradient, stats, Sums(loss * size, correct, jnp.int32(size))

    def add(number: jax.Array, so_far: tuple[Flat, Flat, Sums]) -> tuple[Flat, Flat, Sums]:
        gradient, stats, sums = part(number, so_far[1])
        return jax.tree.map(jnp.add, so_far[0], gradient), stats, so_far[2].add(sums)

    gradient, stats, sums = part(0, state.stats)
    if task.accumulate > 1:
        gradient, stats, sums = lax.fori_loop(1, task.accumulate, add, (gradient, stats, sums))
        gradient = jax.tree.map(lambda g: g / task.accumulate, gradient)
    gradient, stats = mean_over(task.axis, (gradient, stats))
    updates, optimiser = make_optimiser(task.optim, numbers).update(gradient, state.optimiser, state.trained)
    return state._replace(
        step=state.step + 1,
        trained=optax.apply_updates(state.trained, updates),
        stats=stats,
        optimiser=optimiser,
        sums=state.sums.add(sum_over(task.axis, sums)),
    )


def _share(what: str, batch_size: int, axis: str | None, parts: int = 1) -> int:
    """How many examples of a batch a device has; `ValueError` where some would be dropped in silence."""
    devices = axis_size(axis)
    if batch_size % (devices * parts):
        raise ValueError(f"{what}: {devices} devices of {parts} parts do not divide a batch of {batch_size}")
    return batch_size // devices


def _batch(
    task: Task, inputs: Inputs, step: jax.Array, order: jax.Array, places: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What the network sees of the examples at some places of a step's batch, and their labels."""
    steps_per_epoch = len(order) // task.batch_size
    index = order[(step % steps_per_epoch) * task.batch_size + places]
    images, labels = inputs.train.images[index], inputs.train.labels[index]
    if task.augmentation.names:
        key = jax.random.fold_in(inputs.keys.augment, step)
        images = augment(images, key, places, task.augmentation, inputs.numbers.strength)
    return images if task.after else standardise(images, task.mean, task.std), labels


def _mean_loss(
    task: Task, inputs: Inputs, trained: Flat, stats: Flat, x: jax.Array, labels: jax.Array, dropout: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, Flat]]:
    """The loss that is lowered, how many logits are right, and the statistics after this pass."""
    numbers, (params, fixed) = inputs.numbers, inputs.frozen
    variables = variables_of({**params, **trained}, {**fixed, **stats})
    keep, scale = keep_frozen(task.frozen_modules), scale_dropout(numbers.dropout)
    with nn.intercept_methods(keep), nn.intercept_methods(scale):
        logits, left = logits_in_training(
            task.model, variables, x, task.after, dropout, precision=task.precision, remat=task.remat
        )
    moved = flatten(left.get("batch_stats", {}))
    auxiliary = jax.tree.leaves(left.get(AUXILIARY_LOGITS, {}))
    smoothing = numbers.label_smoothing if task.optim.label_smoothing else 0.0
    losses = training_loss(logits, auxiliary, labels, smoothing)
    correct = jnp.sum(logits.argmax(-1) == labels, dtype=jnp.int32)
    return losses.mean(), (correct, {path: moved[path] for path in stats})


def evaluate_batch(
    task: Task, params: Flat, stats: Flat, feed: Feed, first: jax.Array, end: jax.Array, shard: jax.Array | int
) -> Sums:
    """The sums over the examples `first`, `first + 1`, ... of one batch, those at `end` and behind not counted.

    Raises:
      ValueError: if the devices do not divide the batch.
    """
    batch = _share("eval_batch_size", task.eval_batch_size, task.axis)
    index = first + shard * batch + jnp.arange(batch)
    counted = index < end
    images, labels = feed.images[index], feed.labels[index]  # JAX clamps an index behind the last example
    x = images if task.after else standardise(images, task.mean, task.std)
    logits = logits_in_evaluation(task.model, variables_of(params, stats), x, task.after, task.precision)
    losses = jnp.where(counted, cross_entropy(logits, labels), 0)
    right = counted & (logits.argmax(-1) == labels)
    sums = Sums(losses.sum(), right.sum(dtype=jnp.int32), counted.sum(dtype=jnp.int32))
    return sum_over(task.axis, sums)
