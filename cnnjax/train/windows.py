"""Examples that stay in a file: the steps see windows of them, gathered on the host in the epoch's order.

Batch for batch a run on windows sees what it would see if all examples lay on the device; where a window begins and
ends decides nothing.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.feed import Feed, epoch_order
from cnnjax.filters.plan import Flat
from cnnjax.train.devices import replicate
from cnnjax.train.program import Program, compile_program
from cnnjax.train.state import Sums, TrainState
from cnnjax.train.step import Inputs, Task

# Of examples on the device at a time; one batch at least. While the device works on one window the next is gathered.
WINDOW_BYTES = 2**26


def compile_windows(task: Task, state: TrainState, inputs: Inputs) -> Program:
    """As `cnnjax.train.program.compile_program`, for feeds on the host, which may be files mapped into memory."""
    steps_per_epoch = len(inputs.train.labels) // task.batch_size
    most_steps = min(_batches(inputs.train, task.batch_size), steps_per_epoch)
    most_batches = _batches(inputs.held_out, task.eval_batch_size)
    turns = np.arange(most_steps * task.batch_size)
    held_out = _window(inputs.held_out, turns[:0], turns[:0], most_batches * task.eval_batch_size)
    train = _window(inputs.train, turns[:0], turns[:0], len(turns))
    program = compile_program(task, state, inputs._replace(train=train, held_out=held_out), in_turn=True)

    def train_steps(state: TrainState, inputs: Inputs, steps: Sequence[int]) -> TrainState:
        order_of = _last_order(inputs.keys.order, len(inputs.train.labels))
        step = int(state.step)
        end = step + steps[0]
        while step < end:
            numbers = range(step, min(step + most_steps, end))
            rows = [_batch(order_of(number // steps_per_epoch), number % steps_per_epoch, task) for number in numbers]
            places = [_batch(turns, number % most_steps, task) for number in numbers]
            window = _window(inputs.train, np.concatenate(rows), np.concatenate(places), len(turns))
            state = program.train(state, inputs._replace(train=window, held_out=held_out), [len(numbers)])
            step += len(numbers)
        return state

    def evaluate(sums: Sums, params: Flat, stats: Flat, feed: Feed, first: int, end: int, batches: int) -> Sums:
        end = min(end, first + batches * task.eval_batch_size)
        size = most_batches * task.eval_batch_size
        for begin in range(first, end, size):
            rows = np.arange(begin, min(begin + size, end))
            window = _window(feed, rows, np.arange(len(rows)), size)
            needed = math.ceil(len(rows) / task.eval_batch_size)
            sums = program.evaluate(sums, params, stats, window, 0, len(rows), needed)
        return sums

    return dataclasses.replace(program, train=train_steps, evaluate=evaluate)


def _batches(feed: Feed, batch_size: int) -> int:
    """How many batches make a window."""
    return max(1, WINDOW_BYTES // (batch_size * feed.images[:1].nbytes))


def _last_order(key: jax.Array, examples: int) -> Callable[[int], np.ndarray]:
    """From an epoch to its order of the examples; that of the epoch asked for last is kept."""
    kept: dict[int, np.ndarray] = {}

    def order_of(epoch: int) -> np.ndarray:
        if epoch not in kept:
            kept.clear()
            kept[epoch] = np.asarray(epoch_order(key, jnp.int32(epoch), examples))
        return kept[epoch]

    return order_of


def _batch(order: np.ndarray, number: int, task: Task) -> np.ndarray:
    return order[number * task.batch_size : (number + 1) * task.batch_size]


def _window(feed: Feed, rows: np.ndarray, places: np.ndarray, size: int) -> Feed:
    """These rows of a feed at these places of a new one of so many examples, on all devices."""
    # A new array each time: on a CPU the device works on this very memory.
    images = np.zeros((size, *feed.images.shape[1:]), feed.images.dtype)
    labels = np.zeros(size, np.int32)
    images[places], labels[places] = feed.images[rows], feed.labels[rows]
    return replicate(Feed(images, labels))
