"""How far a study is, and how long it will take: a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from cnnjax.study.workdir import Unit

# Where there is no terminal, a line is written at least this often, and whenever a run ends.
_PLAIN_SECONDS = 15.0


class StudyProgress:
    """Shows the runs in progress, the runs done, and the time left for the whole study.

    The time left is that of the runs still to do, each taken to last as long as the finished runs of its arm did, or
    else as the mean run; shared by as many as are in progress at once.

    Args:
      console: where to write.
      units: the runs still to do, in order.
      clock: seconds, monotonic.
      later: how many runs of the study will come after these, each taken to last as the mean of them.
    """

    def __init__(
        self, console: Console, units: list[Unit], clock: Callable[[], float] = time.monotonic, later: float = 0.0
    ) -> None:
        self._console, self._units, self._clock, self._later = console, units, clock, later
        self._durations: dict[str, list[float]] = {}
        self._running: list[PackProgress] = []
        self._told = clock()
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

    def begin(self, *units: Unit) -> "PackProgress":
        """A run begins, or several that are trained together."""
        pack = PackProgress(units, self._clock, self._show, self._end)
        self._running.append(pack)
        self._show()
        return pack

    def _end(self, pack: "PackProgress", outcomes: Sequence[str] | None) -> None:
        units, taken = pack.units, pack.seconds()
        self._running.remove(pack)
        if outcomes is None:
            return
        for unit in units:
            self._durations.setdefault(unit.arm, []).append(taken / len(units))
        self._units = [other for other in self._units if other not in units]
        self._bar.advance(self._task, len(units))
        together = f", {len(units)} together" if len(units) > 1 else ""
        for unit, outcome in zip(units, outcomes, strict=True):
            self._say(f"{unit.arm} seed {unit.seed}: {outcome} in {taken:.1f} s{together}; {self._left_text()}")

    def seconds_left(self) -> float | None:
        """For all runs still to do, and those that come later; None before anything is known."""
        ended = [seconds for durations in self._durations.values() for seconds in durations]
        rests = {pack: rest for pack in self._running if (rest := pack.seconds_left()) is not None}
        known = ended or [(pack.seconds() + rest) / len(pack.units) for pack, rest in rests.items()]
        if not known:
            return None
        mean = sum(known) / len(known)
        expected = {
            unit: sum(own) / len(own) if (own := self._durations.get(unit.arm)) else mean for unit in self._units
        }
        total = sum(expected.values()) + self._later * mean
        for pack in self._running:
            foreseen = sum(expected[unit] for unit in pack.units)
            total += rests.get(pack, max(foreseen - pack.seconds(), 0.0)) - foreseen
        return total / max(1, len(self._running))

    def _left_text(self) -> str:
        left = self.seconds_left()
        if left is None:
            return "time left unknown"
        return f"{left / 60:.0f} min left" if left >= 120 else f"{left:.0f} s left"

    def _show(self) -> None:
        first, *others = self._running
        elsewhere = f" ({len(others)} more at once)" if others else ""
        left = self._left_text()
        self._bar.update(self._task, description=f"{first.name} {first.done:>4}{elsewhere}", left=left)
        if not self._live and self._clock() - self._told >= _PLAIN_SECONDS:
            self._say(f"{', '.join(f'{pack.name}: {pack.done}' for pack in self._running)}; {left}")

    def _say(self, line: RenderableType) -> None:
        self._told = self._clock()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class PackProgress:
    """How far one run is, or several that are trained together. Its pace is measured from when it is first told of:
    what comes before is compilation.

    Attributes:
      units: the runs.
      done: what share of it, or what is done before its first step.
    """

    def __init__(
        self,
        units: tuple[Unit, ...],
        clock: Callable[[], float],
        show: Callable[[], None],
        end: Callable[["PackProgress", Sequence[str] | None], None],
    ) -> None:
        self.units, self.done = units, "0%"
        self._clock, self._show, self._end = clock, show, end
        self._share, self._began = 0.0, clock()
        self._first: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """Of the first run, and how many more there are."""
        unit, *others = self.units
        return f"{unit.arm} seed {unit.seed}" + (f" and {len(others)} more" if others else "")

    def prepare(self, what: str, share: float) -> None:
        """So much of a piece of work before the first step is done, in [0, 1]."""
        self.done = f"{what} {share:.0%}"
        self._show()

    def advance(self, share: float) -> None:
        """So much of the steps is done, in [0, 1]."""
        self._share, self.done = share, f"{share:.0%}"
        self._first = self._first or (self._clock(), share)
        self._show()

    def end(self, *outcomes: str) -> None:
        """The runs ended, each `finished` or otherwise."""
        self._end(self, outcomes)

    def abandon(self) -> None:
        """The runs are still to do."""
        self._end(self, None)

    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._began

    def seconds_left(self) -> float | None:
        """None before its pace is known."""
        if self._first is None:
            return None
        since, share = self._first
        if self._share <= share:
            return None
        return (self._clock() - since) * (1 - self._share) / (self._share - share)
