"""The training loop of a run, or of several that are trained together: chunks of steps, evaluations, and saves.

The order is fixed. At a boundary: evaluate and bring `best` up to date.
Then save, if it is time. Then the next chunk. The host reads a report while the device runs the chunk behind it.
Where a chunk ends decides nothing but when the host looks: the state at a step is the same for all lengths of chunks.
Of many processes each does the same; what a clock or a signal decides, the leader's clock and signals do.
"""

import bisect
import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import jax

from cnnjax.data.feed import Feed
from cnnjax.filters.plan import Flat
from cnnjax.train.hosts import agree
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.program import Program, Report
from cnnjax.train.state import Sums, TrainState
from cnnjax.train.step import Inputs

# A dispatch should take about this long: long enough to hide what it costs, short enough to stop at once.
_DISPATCH_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a run is, and when it is looked at.

    Attributes:
      steps: in all.
      stop: those that are wanted now; `steps`, or a boundary before it.
      boundaries: the steps after which it is evaluated, ascending; the last is `steps`.
      validation, test: the first index of each split, and the one behind its last, in the feed of held-out examples.
      eval_batch_size: over all devices.
      save_every: seconds between two saves.
    """

    steps: int
    stop: int
    boundaries: tuple[int, ...]
    validation: tuple[int, int]
    test: tuple[int, int]
    eval_batch_size: int
    save_every: float


@dataclasses.dataclass(frozen=True)
class Listeners:
    """Who is told. Runs are named by their place among those trained together.

    Attributes:
      on_evaluated: of a run's variables (`params`, `batch_stats`; by path) that were evaluated at a boundary, and their
        step, once, before a save that includes it; it must be done with the arrays when it returns. None if nobody
        wants to know.
      on_report: of each boundary's step and report of a run, in order, before a save that includes it.
      on_diverged: of a run whose loss is not finite, once, with a line that says so; it is not trained or saved again.
      on_save: of a run's state to be kept and its step; it must be done with the arrays when it returns.
      on_progress: of the steps reached by all runs, and the seconds of training since it was last told.
    """

    on_evaluated: Callable[[int, int, Flat, Flat], None] | None
    on_report: Callable[[int, int, Report], None]
    on_diverged: Callable[[int, str], None]
    on_save: Callable[[int, int, TrainState], None]
    on_progress: Callable[[Sequence[int], float], None]


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
    steps: Sequence[int],
    inputs: Inputs,
    plans: Sequence[Plan],
    listeners: Listeners,
    interruption: Interruption,
) -> TrainState:
    """Trains from `steps` to the end of each run's plan and returns the last state, saved but for diverged runs.

    Args:
      program: compiled for these inputs.
      state: at `steps`, on the devices; it is consumed.
      steps: how many each run has done.
      plans: of each run; where they evaluate on and save at is the same for all.

    Raises:
      Stopped: after a signal, once the state is saved.
    """
    return _Fit(program, list(steps), inputs, plans, listeners, interruption).run(state)


class _Fit:
    """What `fit` keeps track of: the steps done, who has diverged, and the reports that are still to be handed out."""

    def __init__(
        self,
        program: Program,
        steps: list[int],
        inputs: Inputs,
        plans: Sequence[Plan],
        listeners: Listeners,
        interruption: Interruption,
    ) -> None:
        self.program, self.inputs, self.plans, self.listeners = program, inputs, plans, listeners
        self.steps, self.interruption = steps, interruption
        self.diverged: set[int] = set()
        self.waiting: tuple[list[tuple[int, int]], Report] | None = None

    def run(self, state: TrainState) -> TrainState:
        # Runs that were stopped in an evaluation have the sums of the boundary still in their state.
        counted = [int(each.sums.examples) for each in self.program.split(state)]
        due = [n for n, step in enumerate(self.steps) if step in self.plans[n].boundaries and counted[n]]
        pace, saved_at = Pace(), time.monotonic()
        while True:
            if due:
                state = self.evaluate(state, due)
            going = self.going()
            late = time.monotonic() - saved_at >= self.plans[0].save_every
            late, stop = _agree_on_next(pace, self.interruption, late=late)
            if not going or stop or late:
                self.save(state)
                saved_at = time.monotonic()
                if not self.going():
                    return state
                if stop:
                    raise Stopped
            state, due = self.train(state, self.going(), pace)

    def going(self) -> list[int]:
        """The runs that are still to be trained."""
        return [n for n, step in enumerate(self.steps) if step < self.plans[n].stop and n not in self.diverged]

    def train(self, state: TrainState, going: list[int], pace: Pace) -> tuple[TrainState, list[int]]:
        """A chunk, no further than the next boundary of any run; the state then, and the runs at a boundary."""
        ahead = {n: bisect.bisect_right(self.plans[n].boundaries, self.steps[n]) for n in going}
        boundary = {n: self.plans[n].boundaries[place] for n, place in ahead.items()}
        count = min(pace.pieces, *(boundary[n] - self.steps[n] for n in going))
        started = time.monotonic()
        counts = [count if n in boundary else 0 for n in range(len(self.steps))]
        state = self.program.train(state, self.inputs, counts)
        self.tell()
        state.step.block_until_ready()
        seconds = time.monotonic() - started
        pace.learn(count, seconds)
        self.steps = [step + more for step, more in zip(self.steps, counts, strict=True)]
        self.listeners.on_progress(self.steps, seconds)
        return state, [n for n in going if self.steps[n] == boundary[n] and n not in self.diverged]

    def evaluate(self, state: TrainState, due: list[int]) -> TrainState:
        """The validation split, taken in by the runs that it is due for."""
        frozen, plan = self.inputs.frozen, self.plans[0]
        params, stats = {**frozen[0], **state.trained}, {**frozen[1], **state.stats}
        sums = evaluate(
            self.program, len(self.steps), params, stats, self.inputs.held_out, plan.validation, plan, self.interruption
        )
        if sums is None:
            self.save(state)
            raise Stopped
        if self.listeners.on_evaluated:
            variables = self.program.split((params, stats))
            for n in due:
                self.listeners.on_evaluated(n, self.steps[n], *variables[n])
        state, report = jax.block_until_ready(self.program.settle(state, sums, [n in due for n in self.all()]))
        self.waiting = [(n, self.steps[n]) for n in due], report
        return state

    def all(self) -> range:
        return range(len(self.steps))

    def save(self, state: TrainState) -> None:
        """Every run that has not diverged, once what it reports is told."""
        self.tell()
        states = self.program.split(state)
        for n in self.all():
            if n not in self.diverged:
                self.listeners.on_save(n, self.steps[n], states[n])

    def tell(self) -> None:
        """Hands out the reports, if any are waiting."""
        if self.waiting is None:
            return
        at, reports = self.waiting[0], self.program.split(self.waiting[1])
        self.waiting = None
        for n, step in at:
            report = jax.device_get(reports[n])
            self.listeners.on_report(n, step, report)
            losses = report.train.metrics()["loss"], report.validation.metrics()["loss"]
            if not all(map(math.isfinite, losses)):
                self.diverged.add(n)
                reason = f"the loss was {losses[0]} in training and {losses[1]} in validation at step {step}"
                self.listeners.on_diverged(n, reason)


def _agree_on_next(pace: Pace, interruption: Interruption, *, late: bool = False) -> tuple[bool, bool]:
    """Before each dispatch: whether it is time to save, and whether to stop; the pace becomes the leader's."""
    pace.pieces, save, number = agree("dispatch", (pace.pieces, late, interruption.signal))
    interruption.signal = number or interruption.signal
    return save, number != 0


def evaluate(
    program: Program,
    runs: int,
    params: Flat,
    stats: Flat,
    feed: Feed,
    split: tuple[int, int],
    plan: Plan,
    interruption: Interruption,
) -> Sums | None:
    """The sums over all examples of a split, none dropped, for each of so many runs; None if a signal came before the
    end."""
    sums, pace = program.join([Sums.zero()] * runs), Pace()
    first, end = split
    while first < end:
        if _agree_on_next(pace, interruption)[1]:
            return None
        started = time.monotonic()
        batches = min(pace.pieces, math.ceil((end - first) / plan.eval_batch_size))
        sums = jax.block_until_ready(program.evaluate(sums, params, stats, feed, first, end, batches))
        pace.learn(batches, time.monotonic() - started)
        first += batches * plan.eval_batch_size
    return sums
