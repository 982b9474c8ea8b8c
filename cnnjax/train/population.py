"""Runs of the same shapes trained together by one compiled program, spread over the devices.

Each has its own state, keys, numbers and order of the data, and computes what it would alone. On a device they are
computed side by side (`vmap`), which fills a device that one small network does not; or one after another in one
program (`map`), which serves where side by side a convolution would become a slow grouped one, as on a CPU.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.data.feed import epoch_order
from cnnjax.train.devices import distribute, spread_members
from cnnjax.train.program import Program, Report, bytes_of, compiler_options, evaluate_block, settle, train_chunk
from cnnjax.train.state import Sums, TrainState
from cnnjax.train.step import Inputs, Task, train_step

Form = Literal["map", "vmap"]


@dataclasses.dataclass(frozen=True)
class Slots:
    """Where the members of a population are: each device has as many slots, and the last may be idle.

    An idle slot repeats the last member and trains no steps.

    Attributes:
      members: how many runs there are.
      slots: at least, over all devices.
      devices: how many.
    """

    members: int
    slots: int
    devices: int

    @property
    def of_device(self) -> int:
        """The slots of each device."""
        return math.ceil(max(self.members, self.slots) / self.devices)

    def join(self, trees: Sequence[Any]) -> Any:
        """The members' trees as one, its arrays [devices, slots, ...] spread over the devices."""
        padded = [*trees, *[trees[-1]] * (self.devices * self.of_device - self.members)]

        def stack(*leaves: Any) -> jax.Array:
            stacked = jnp.stack(leaves)
            return stacked.reshape(self.devices, self.of_device, *stacked.shape[1:])

        return distribute(jax.tree.map(stack, *padded))

    def split(self, tree: Any) -> list[Any]:
        """Each member's tree, its arrays on the host."""
        fetched = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), jax.device_get(tree))
        return [jax.tree.map(lambda a, member=member: a[member], fetched) for member in range(self.members)]

    def numbers(self, values: Sequence[int], idle: int) -> jax.Array:
        """One number a slot, int32 [devices, slots]."""
        padded = [*values, *[idle] * (self.devices * self.of_device - self.members)]
        return distribute(np.asarray(padded, np.int32).reshape(self.devices, self.of_device))


def compile_population(task: Task, state: TrainState, inputs: Inputs, slots: Slots, form: Form) -> Program:
    """The program of runs trained together, compiled for these shapes; the values of the arrays do not matter.

    Args:
      task: what to train; its axis is None, for a device has its runs to itself.
      state: as `slots.join` makes it of the runs' states.
      inputs: likewise; but for feeds [N, ...] that all runs share, which lie whole on every device.
      slots: of the runs.
      form: how a device computes its runs.
    """
    shared = inputs.train.labels.ndim == 1
    feed = None if shared else 0
    axes = Inputs(0, feed, feed, 0, 0)  # type: ignore[arg-type]
    over = _FORMS[form]

    def train(state: TrainState, given: tuple[Inputs, jax.Array]) -> TrainState:
        if form == "vmap":
            return _train_side_by_side(task, state, *given, axes)
        return over(lambda state, given: train_chunk(task, state, *given), state, given, (axes, 0))

    def evaluate(sums: Sums, given: tuple) -> Sums:
        return over(lambda sums, given: evaluate_block(task, sums, *given), sums, given, (0, 0, feed, None, None, None))

    def settle_due(state: TrainState, given: tuple[Sums, jax.Array]) -> tuple[TrainState, Report]:
        def one(state: TrainState, validation: Sums, due: jax.Array) -> tuple[TrainState, Report]:
            settled, report = settle(state, validation)
            return _choose(due == 1, settled, state), report

        return jax.vmap(one)(state, *given)

    counts, zeros = slots.numbers([1] * slots.members, 0), slots.join([Sums.zero()] * slots.members)
    params, stats = {**inputs.frozen[0], **state.trained}, {**inputs.frozen[1], **state.stats}
    numbers = tuple(map(jnp.int32, (0, 1, 1)))
    block = (params, stats, inputs.held_out, *numbers)
    run_train = _compile(task, train, (axes, 0), state, (inputs, counts))
    run_evaluate = _compile(task, evaluate, (0, 0, feed, None, None, None), zeros, block)
    run_settle = _compile(task, settle_due, 0, state, (zeros, counts))
    return Program(
        train=lambda state, inputs, steps: run_train(state, (inputs, slots.numbers(steps, 0))),
        evaluate=lambda sums, params, stats, feed, first, end, batches: run_evaluate(
            sums, (params, stats, feed, *map(jnp.int32, (first, end, batches)))
        ),
        settle=lambda state, sums, due: run_settle(state, (sums, slots.numbers([int(it) for it in due], 0))),
        join=slots.join,
        split=slots.split,
        train_bytes=bytes_of(run_train),
    )


def _compile(task: Task, function: Callable[..., Any], axes: Any, state: Any, given: Any) -> Callable[..., Any]:
    lowered = spread_members(function, axes).lower(state, given)  # type: ignore[attr-defined]
    return cast(Callable[..., Any], lowered.compile(compiler_options(task)))


def _one_after_another(function: Callable[[Any, Any], Any], state: Any, given: tuple, axes: tuple) -> Any:
    """`function(state, given)` of each run; of `given`, what the axes say all runs share is not taken apart."""
    own, rejoin = _take_apart(given, axes)
    return lax.map(lambda each: function(each[0], rejoin(each[1])), (state, own))


def _side_by_side(function: Callable[[Any, Any], Any], state: Any, given: tuple, axes: tuple) -> Any:
    return jax.vmap(function, (0, axes))(state, given)


_FORMS = {"map": _one_after_another, "vmap": _side_by_side}


def _take_apart(given: tuple, axes: tuple) -> tuple[list[Any], Callable[[list[Any]], tuple]]:
    """The arrays of `given` that differ from run to run, and the way back from one run's to its whole `given`."""
    leaves, structure = jax.tree.flatten(given)
    differs = jax.tree.leaves(
        jax.tree.map(lambda axis, part: jax.tree.map(lambda _: axis is not None, part), axes, given, is_leaf=_is_axis)
    )

    def rejoin(own: list[Any]) -> tuple:
        rest = iter(own)
        whole = [next(rest) if its else leaf for its, leaf in zip(differs, leaves, strict=True)]
        return jax.tree.unflatten(structure, whole)

    return [leaf for its, leaf in zip(differs, leaves, strict=True) if its], rejoin


def _is_axis(axis: Any) -> bool:
    return axis is None or axis == 0


def _train_side_by_side(task: Task, state: TrainState, inputs: Inputs, steps: jax.Array, axes: Inputs) -> TrainState:
    """So many steps [runs] of each run.

    The order of an epoch is drawn outside the loop over its steps: under `vmap` a condition computes both its sides,
    and every step would draw one.
    """
    examples = inputs.train.labels.shape[-1]
    steps_per_epoch = examples // task.batch_size
    end = state.step + steps

    def one(state: TrainState, inputs: Inputs, order: jax.Array, goes_on: jax.Array) -> TrainState:
        return _choose(goes_on, train_step(task, state, inputs, 0, order), state)

    def portion(state: TrainState) -> TrainState:
        """Up to where the first of the runs ends its epoch or its steps."""
        orders = jax.vmap(lambda key, step: epoch_order(key, step // steps_per_epoch, examples))(
            inputs.keys.order, state.step
        )
        goes_on = state.step < end
        left = jnp.minimum(end - state.step, steps_per_epoch - state.step % steps_per_epoch)
        count = jnp.min(jnp.where(goes_on, left, steps_per_epoch))
        together = jax.vmap(one, (0, axes, 0, 0))
        return lax.fori_loop(0, count, lambda _, state: together(state, inputs, orders, goes_on), state)

    return lax.while_loop(lambda state: jnp.any(state.step < end), portion, state)


def _choose(condition: jax.Array, this: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), this, other)
