"""The training loop: dispatches chunks of steps, evaluates, saves, and stops when asked.

The order is fixed. At a boundary: evaluate and bring `best` up to date.
Then save, if it is time. Then the next chunk. The host reads a report while the device runs the chunk behind it.
Where a chunk ends decides nothing but when the host looks: the state at a step is the same for all lengths of chunks.
"""

import bisect
import dataclasses
import math
import time
from collections.abc import Callable

import jax

from cnnjax.data.feed import Feed
from cnnjax.filters.plan import Flat
from cnnjax.train.devices import replicate
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.program import Program, Report
from cnnjax.train.state import Sums, TrainState
from cnnjax.train.step import Keys

# A dispatch should take about this long: long enough to hide what it costs, short enough to stop at once.
_DISPATCH_SECONDS = 0.25


class Diverged(Exception):
    """The loss is not finite. The message says at which step it was seen."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a run is, and when it is looked at.

    Attributes:
      steps: in all.
      boundaries: the steps after which it is evaluated, ascending; the last is `steps`.
      validation, test: the first and the last-but-one index of each split in the feed of held-out examples.
      eval_batch_size: over all devices.
      save_every: seconds between two saves.
    """

    steps: int
    boundaries: tuple[int, ...]
    validation: tuple[int, int]
    test: tuple[int, int]
    eval_batch_size: int
    save_every: float


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run reads, on all devices: what is frozen (parameters, statistics), the examples, and its keys."""

    frozen: tuple[Flat, Flat]
    train: Feed
    held_out: Feed
    keys: Keys


@dataclasses.dataclass(frozen=True)
class Listeners:
    """Who is told.

    Attributes:
      on_evaluated: of the variables (`params`, `batch_stats`; by path, on all devices) that were evaluated at a
        boundary, once, before a save that includes it; it must be done with the arrays when it returns.
      on_report: of each boundary's step and report, in order, before a save that includes it.
      on_save: of a state to be kept and its step; it must be done with the arrays when it returns.
      on_progress: of the step reached, and the seconds of training since it was last told.
    """

    on_evaluated: Callable[[int, Flat, Flat], None]
    on_report: Callable[[int, Report], None]
    on_save: Callable[[int, TrainState], None]
    on_progress: Callable[[int, float], None]


def boundaries(steps: int, steps_per_epoch: int, eval_every: float) -> tuple[int, ...]:
    """The steps after which a run is evaluated: every `eval_every` epochs (rounded, at least a step), and the last."""
    between = max(1.0, eval_every * steps_per_epoch)
    inner = {round(i * between) for i in range(1, math.ceil(steps / between))}
    return (*sorted(step for step in inner if step < steps), steps)


class Pace:
    """How many pieces of work go into one dispatch, learned from how long they take."""

    def __init__(self) -> None:
        self.pieces = 1

    def learn(self, pieces: int, seconds: float) -> None:
        """After a dispatch of so many pieces that took so long."""
        self.pieces = max(1, min(2 * self.pieces, round(pieces * _DISPATCH_SECONDS / max(seconds, 1e-9))))


def fit(
    program: Program,
    state: TrainState,
    step: int,
    inputs: Inputs,
    plan: Plan,
    listeners: Listeners,
    interruption: Interruption,
) -> TrainState:
    """Trains from `step` to the end and returns the last state, saved.

    Args:
      program: compiled for these inputs.
      state: at `step`, on all devices; it is consumed.
      step: the number of steps that are done.

    Raises:
      Diverged: when a report's loss is not finite.
      Stopped: after a signal, once the state is saved.
    """
    # A run that was stopped in an evaluation has the sums of the boundary still in its state.
    at_boundary = step in plan.boundaries and int(state.sums.examples) > 0
    waiting: tuple[int, Report] | None = None
    pace, saved_at = Pace(), time.monotonic()
    while True:
        if at_boundary:
            params, stats = {**inputs.frozen[0], **state.trained}, {**inputs.frozen[1], **state.stats}
            sums = evaluate(program, params, stats, inputs.held_out, plan.validation, plan, interruption)
            if sums is None:
                listeners.on_save(step, state)
                raise Stopped
            listeners.on_evaluated(step, params, stats)
            state, report = jax.block_until_ready(program.settle(state, sums))
            waiting = (step, report)
        ends = step == plan.steps
        if ends or interruption.requested or time.monotonic() - saved_at >= plan.save_every:
            _tell(listeners, waiting)
            waiting = None
            listeners.on_save(step, state)
            saved_at = time.monotonic()
            if ends:
                return state
            interruption.check()
        boundary = plan.boundaries[bisect.bisect_right(plan.boundaries, step)]
        steps = min(pace.pieces, boundary - step)
        started = time.monotonic()
        state = program.train(state, inputs.frozen, inputs.train, inputs.keys, steps)
        _tell(listeners, waiting)
        waiting = None
        state.step.block_until_ready()
        seconds = time.monotonic() - started
        pace.learn(steps, seconds)
        step += steps
        at_boundary = step == boundary
        listeners.on_progress(step, seconds)


def evaluate(
    program: Program,
    params: Flat,
    stats: Flat,
    feed: Feed,
    split: tuple[int, int],
    plan: Plan,
    interruption: Interruption,
) -> Sums | None:
    """The sums over all examples of a split, none dropped; None if a signal came before the end."""
    sums, pace = replicate(Sums.zero()), Pace()
    first, end = split
    while first < end:
        if interruption.requested:
            return None
        started = time.monotonic()
        batches = min(pace.pieces, math.ceil((end - first) / plan.eval_batch_size))
        sums = jax.block_until_ready(program.evaluate(sums, params, stats, feed, first, end, batches))
        pace.learn(batches, time.monotonic() - started)
        first += batches * plan.eval_batch_size
    return sums


def _tell(listeners: Listeners, waiting: tuple[int, Report] | None) -> None:
    """Hands out a report, if one is waiting."""
    if waiting is None:
        return
    step, report = waiting
    report = jax.device_get(report)
    listeners.on_report(step, report)
    losses = report.train.metrics()["loss"], report.validation.metrics()["loss"]
    if not all(map(math.isfinite, losses)):
        raise Diverged(f"the loss was {losses[0]} in training and {losses[1]} in validation at step {step}")
