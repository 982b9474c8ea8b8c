"""How far a study is, and how long it will take: a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from cnnjax.study.workdir import Unit

# Where there is no terminal, a line is written at least this often, and whenever a run ends.
_PLAIN_SECONDS = 15.0


class StudyProgress:
    """Shows the run in progress, the runs done, and the time left for the whole study.

    The time left is that of the runs still to do, each taken to last as long as the finished runs of its arm did, or
    else as the mean run. The pace of the current run is measured from when it is first told of: what
    comes before is compilation.

    Args:
      console: where to write.
      units: the runs still to do, in order.
      clock: seconds, monotonic.
    """

    def __init__(self, console: Console, units: list[Unit], clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._units, self._clock = console, units, clock
        self._durations: dict[str, list[float]] = {}
        self._current: tuple[Unit, ...] = ()
        self._share, self._started, self._told = 0.0, 0.0, clock()
        self._first: tuple[float, float] | None = None
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task: TaskID = self._bar.add_task("", total=len(units), left="")
        self._live = Live(self._bar, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> "StudyProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, *units: Unit) -> None:
        """A run begins, or several that are trained together."""
        self._current, self._share, self._first, self._started = units, 0.0, None, self._clock()
        self._show()

    def prepare(self, what: str, share: float) -> None:
        """So much of a piece of work before the current run's steps is done, in [0, 1]."""
        self._show(f"{what} {share:.0%}")

    def advance(self, share: float) -> None:
        """So much of the current run's steps is done, in [0, 1]."""
        self._share = share
        self._first = self._first or (self._clock(), share)
        self._show()

    def end(self, *outcomes: str) -> None:
        """The current runs ended, each `finished` or otherwise."""
        units, taken = self._current, self._clock() - self._started
        for unit in units:
            self._durations.setdefault(unit.arm, []).append(taken / len(units))
        self._units = [other for other in self._units if other not in units]
        self._current, self._share = (), 0.0
        self._bar.advance(self._task, len(units))
        together = f", {len(units)} together" if len(units) > 1 else ""
        for unit, outcome in zip(units, outcomes, strict=True):
            self._say(f"{unit.arm} seed {unit.seed}: {outcome} in {taken:.1f} s{together}; {self._left_text()}")

    def seconds_left(self) -> float | None:
        """For all runs still to do; None before anything is known."""
        ended = [seconds for durations in self._durations.values() for seconds in durations]
        running = self._clock() - self._started if self._current else 0.0
        rest = self._rest_of_run()
        if not ended and rest is None:
            return None
        mean = sum(ended) / len(ended) if ended else (running + (rest or 0.0)) / len(self._current)
        total = 0.0
        expected_of_current = 0.0
        for unit in self._units:
            own = self._durations.get(unit.arm)
            expected = sum(own) / len(own) if own else mean
            if unit in self._current:
                expected_of_current += expected
            else:
                total += expected
        return total + (max(expected_of_current - running, 0.0) if rest is None else rest)

    def _rest_of_run(self) -> float | None:
        """The seconds left of the current run; None before its pace is known."""
        if not self._current or self._first is None:
            return None
        since, share = self._first
        if self._share <= share:
            return None
        return (self._clock() - since) * (1 - self._share) / (self._share - share)

    def _left_text(self) -> str:
        left = self.seconds_left()
        if left is None:
            return "time left unknown"
        return f"{left / 60:.0f} min left" if left >= 120 else f"{left:.0f} s left"

    def _show(self, preparing: str = "") -> None:
        unit, *others = self._current
        together = f" and {len(others)} more" if others else ""
        what, done = f"{unit.arm} seed {unit.seed}{together}", preparing or f"{self._share:.0%}"
        self._bar.update(self._task, description=f"{what} {done:>4}", left=self._left_text())
        if not self._live and self._clock() - self._told >= _PLAIN_SECONDS:
            self._say(f"{what}: {done}; {self._left_text()}")

    def _say(self, line: RenderableType) -> None:
        self._told = self._clock()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
