"""The compiled functions of a run: many steps a dispatch, spread over the devices."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.data.feed import Feed, epoch_order
from cnnjax.filters.plan import Flat
from cnnjax.train.devices import shards, spread
from cnnjax.train.state import Best, Sums, TrainState
from cnnjax.train.step import Keys, Task, evaluate_batch, train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run dispatches. Each is compiled once, for all runs with the same task and shapes.

    Attributes:
      train: (state, frozen, feed, keys, steps) to the state that many steps later, any number of them.
      evaluate: (sums, params, stats, feed, first, end, batches) to the sums with that many batches added, of the
        examples from `first` on and before `end`.
      settle: (state, validation sums) to the state with `best` brought up to date and `sums` at 0, and what there is
        to report.
    """

    train: Callable[[TrainState, tuple[Flat, Flat], Feed, Keys, int], TrainState]
    evaluate: Callable[[Sums, Flat, Flat, Feed, int, int, int], Sums]
    settle: Callable[[TrainState, Sums], tuple[TrainState, "Report"]]


class Report(NamedTuple):
    """What an evaluation says of a run.

    Attributes:
      train: sums over the training examples since the last evaluation, as the steps saw them.
      validation: sums over the validation split.
      best_step: the step of the best evaluation so far.
    """

    train: Sums
    validation: Sums
    best_step: jax.Array


def compile_program(task: Task, state: TrainState, frozen: tuple[Flat, Flat], train: Feed, held_out: Feed) -> Program:
    """Compiles for these shapes; the values of the arrays do not matter, but they lie where a run's will.

    Args:
      task: what to train.
      state, frozen: of any run of the task, on all devices.
      train, held_out: the training examples, and the ones that are evaluated, on all devices.
    """
    shard = shards()
    keys = Keys(*[jax.random.key(0)] * 3)
    run_train = _compile(_train_chunk(task), shard, state, (frozen, train, keys, jnp.int32(1)))
    params, stats = {**frozen[0], **state.trained}, {**frozen[1], **state.stats}
    block = (params, stats, held_out, *map(jnp.int32, (0, 1, 1)))
    run_evaluate = _compile(_evaluate_block(task), shard, Sums.zero(), block)
    run_settle = _compile(_settle, shard, state, Sums.zero())
    return Program(
        train=lambda state, frozen, feed, keys, steps: run_train(shard, state, (frozen, feed, keys, jnp.int32(steps))),
        evaluate=lambda sums, params, stats, feed, first, end, batches: run_evaluate(
            shard, sums, (params, stats, feed, *map(jnp.int32, (first, end, batches)))
        ),
        settle=lambda state, sums: run_settle(shard, state, sums),
    )


def _compile(function: Callable[..., Any], shard: jax.Array, state: Any, inputs: Any) -> Callable[..., Any]:
    return spread(function).lower(shard, state, inputs).compile()  # type: ignore[attr-defined]


def _train_chunk(task: Task) -> Callable[..., TrainState]:
    def chunk(shard: jax.Array, state: TrainState, inputs: tuple) -> TrainState:
        frozen, feed, keys, steps = inputs
        examples = len(feed.labels)
        steps_per_epoch = examples // task.batch_size

        def order_at(step: jax.Array) -> jax.Array:
            return epoch_order(keys.order, step // steps_per_epoch, examples)

        def body(_: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state, order = carry
            starts = state.step % steps_per_epoch == 0
            order = lax.cond(starts, lambda: order_at(state.step), lambda: order)
            return train_step(task, state, frozen, feed, keys, shard, order), order

        # The number of steps is an argument, so that one compiled program serves chunks of every length.
        return lax.fori_loop(0, steps, body, (state, order_at(state.step)))[0]

    return chunk


def _evaluate_block(task: Task) -> Callable[..., Sums]:
    def block(shard: jax.Array, sums: Sums, inputs: tuple) -> Sums:
        params, stats, feed, first, end, batches = inputs

        def body(number: jax.Array, sums: Sums) -> Sums:
            start = first + number * task.eval_batch_size
            return sums.add(evaluate_batch(task, params, stats, feed, start, end, shard))

        return lax.fori_loop(0, batches, body, sums)

    return block


def _settle(shard: jax.Array, state: TrainState, validation: Sums) -> tuple[TrainState, Report]:
    del shard
    now = Best(state.trained, state.stats, validation.correct, state.step)
    better = validation.correct > state.best.correct
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), now, state.best)
    return state._replace(sums=Sums.zero(), best=best), Report(state.sums, validation, best.step)
