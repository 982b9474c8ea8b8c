"""The compiled functions of a run, or of several runs that are trained together: many steps a dispatch."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.data.feed import Feed, epoch_order
from cnnjax.filters.plan import Flat
from cnnjax.train.devices import replicate, shards, spread
from cnnjax.train.state import Best, Sums, TrainState
from cnnjax.train.step import Inputs, Task, evaluate_batch, train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """What runs dispatch. Each is compiled once, for all runs with the same task and shapes.

    A run alone has its batch spread over the devices (`compile_program`); runs trained together are spread over them
    themselves (`cnnjax.train.population`). How their states lie on the devices is this program's own affair.

    Attributes:
      train: (state, inputs, steps) to the state so many steps later, any number of them for each run.
      evaluate: (sums, params, stats, feed, first, end, batches) to the sums with that many batches added, of the
        examples from `first` on and before `end`.
      settle: (state, validation sums, due) to the state with `best` brought up to date and `sums` at 0, for those runs
        that it is due for, and what there is to report.
      join: from a tree of each run to one on the devices.
      split: and back, to each run's own.
      train_bytes: of one device's memory that `train` takes: what it is given, what it returns, and what lies between.
    """

    train: Callable[[TrainState, Inputs, Sequence[int]], TrainState]
    evaluate: Callable[[Sums, Flat, Flat, Feed, int, int, int], Sums]
    settle: Callable[[TrainState, Sums, Sequence[bool]], tuple[TrainState, "Report"]]
    join: Callable[[Sequence[Any]], Any]
    split: Callable[[Any], Sequence[Any]]
    train_bytes: int = 0


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


def compile_program(task: Task, state: TrainState, inputs: Inputs, *, in_turn: bool = False) -> Program:
    """The program of a run alone, compiled for these shapes; the values of the arrays do not matter.

    Args:
      task: what to train.
      state, inputs: of any run of the task, on all devices.
      in_turn: whether the training examples are the batches of W consecutive steps, that of step s at place s % W, in
        the place of all examples in any order.
    """
    shard = shards()

    def train_here(shard: jax.Array, state: TrainState, given: tuple[Inputs, jax.Array]) -> TrainState:
        return (train_in_turn if in_turn else train_chunk)(task, state, *given, shard)

    def evaluate_here(shard: jax.Array, sums: Sums, given: tuple) -> Sums:
        return evaluate_block(task, sums, *given, shard=shard)

    params, stats = {**inputs.frozen[0], **state.trained}, {**inputs.frozen[1], **state.stats}
    block = (params, stats, inputs.held_out, *map(jnp.int32, (0, 1, 1)))
    run_train = _compile(task, train_here, shard, state, (inputs, jnp.int32(1)))
    run_evaluate = _compile(task, evaluate_here, shard, replicate(Sums.zero()), block)
    return dataclasses.replace(
        compile_settling(task, state),
        train=lambda state, inputs, steps: run_train(shard, state, (inputs, jnp.int32(steps[0]))),
        evaluate=lambda sums, params, stats, feed, first, end, batches: run_evaluate(
            shard, sums, (params, stats, feed, *map(jnp.int32, (first, end, batches)))
        ),
        train_bytes=bytes_of(run_train),
    )


def compile_settling(task: Task, state: TrainState) -> Program:
    """The program of a run alone but for what reads examples."""
    shard = shards()

    def settle_here(shard: jax.Array, state: TrainState, validation: Sums) -> tuple[TrainState, Report]:
        return settle(state, validation)

    def no_examples(*_: Any) -> Any:
        raise NotImplementedError

    run_settle = _compile(task, settle_here, shard, state, Sums.zero())
    return Program(
        train=no_examples,
        evaluate=no_examples,
        settle=lambda state, sums, due: run_settle(shard, state, sums),
        join=lambda trees: replicate(trees[0]),
        split=lambda tree: [tree],
    )


def _compile(task: Task, function: Callable[..., Any], shard: jax.Array, state: Any, inputs: Any) -> Callable[..., Any]:
    return spread(function).lower(shard, state, inputs).compile(compiler_options(task))  # type: ignore[attr-defined]


def bytes_of(compiled: Any) -> int:
    """Of a device's memory that a compiled function takes, donated arguments once; 0 where the backend does not say."""
    sizes = compiled.memory_analysis()
    if sizes is None:
        return 0
    given, returned = sizes.argument_size_in_bytes, sizes.output_size_in_bytes
    return given + returned - sizes.alias_size_in_bytes + sizes.temp_size_in_bytes


def compiler_options(task: Task) -> dict[str, bool] | None:
    """What XLA is told beside the program."""
    return {"xla_gpu_deterministic_ops": True} if task.deterministic else None


def train_chunk(
    task: Task, state: TrainState, inputs: Inputs, steps: jax.Array, shard: jax.Array | int = 0
) -> TrainState:
    """So many steps of a run on this device's part of each batch."""
    examples = len(inputs.train.labels)
    steps_per_epoch = examples // task.batch_size

    def order_at(step: jax.Array) -> jax.Array:
        return epoch_order(inputs.keys.order, step // steps_per_epoch, examples)

    def body(_: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
        state, order = carry
        starts = state.step % steps_per_epoch == 0
        order = lax.cond(starts, lambda: order_at(state.step), lambda: order)
        return train_step(task, state, inputs, shard, order), order

    # The number of steps is an argument, so that one compiled program serves chunks of every length.
    return lax.fori_loop(0, steps, body, (state, order_at(state.step)))[0]


def train_in_turn(
    task: Task, state: TrainState, inputs: Inputs, steps: jax.Array, shard: jax.Array | int = 0
) -> TrainState:
    """As `train_chunk`, on a window of examples; see `compile_program`."""
    order = jnp.arange(len(inputs.train.labels))
    return lax.fori_loop(0, steps, lambda _, state: train_step(task, state, inputs, shard, order), state)


def evaluate_block(
    task: Task,
    sums: Sums,
    params: Flat,
    stats: Flat,
    feed: Feed,
    first: jax.Array,
    end: jax.Array,
    batches: jax.Array,
    *,
    shard: jax.Array | int = 0,
) -> Sums:
    """The sums with so many batches added."""

    def body(number: jax.Array, sums: Sums) -> Sums:
        start = first + number * task.eval_batch_size
        return sums.add(evaluate_batch(task, params, stats, feed, start, end, shard))

    return lax.fori_loop(0, batches, body, sums)


def settle(state: TrainState, validation: Sums) -> tuple[TrainState, Report]:
    """An evaluation taken in: see `Program.settle`."""
    now = Best(state.trained, state.stats, validation.correct, state.step)
    better = validation.correct > state.best.correct
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), now, state.best)
    return state._replace(sums=Sums.zero(), best=best), Report(state.sums, validation, best.step)
