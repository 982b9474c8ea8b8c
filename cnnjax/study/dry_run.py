"""What a study would do, and about how long it would take, before anything is done."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnnjax.config import Config, DataConfig
from cnnjax.data.streamed import AnyDataset
from cnnjax.study.packs import Pack, backend_gains, choose_packs
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train.beginning import kept_features
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import boundaries
from cnnjax.train.packing import Gain, expected_gain
from cnnjax.train.processes import several
from cnnjax.train.setup import build_model
from cnnjax.train.speed import step_multiply_adds


@dataclasses.dataclass(frozen=True)
class Work:
    """What a run does, in multiply-adds, but for what is fitted and compiled before its first step.

    Attributes:
      steps: of training; 0 for a head in closed form.
      step: of one of them.
      all: of the steps, the evaluations, and the features of a frozen prefix.
    """

    steps: int
    step: int
    all: int


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
      runs: which.
      trained: how.
      steps: of each of them.
      seconds: of all of them; not a number where they are not known.
    """

    runs: str
    trained: str
    steps: tuple[int, ...]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Foreseen:
    """What a study would do.

    Attributes:
      to_do: how many runs.
      of: how many there are in all.
      lines: one for each pack, or for each part of a sweep.
    """

    to_do: int
    of: int
    lines: tuple[Line, ...]


def foresee_runs(
    study: Study, units: Sequence[Unit], datasets: Mapping[DataConfig, AnyDataset], interruption: Interruption
) -> Foreseen:
    """The units that are to do, pack by pack."""
    arms = study.experiment.arms
    packs, _ = choose_packs(units, arms, datasets, study.packs, interruption)
    # The other ones of many hosts wait to be told what to train, and measure nothing.
    gains = [] if several() else backend_gains(interruption)
    work = {arm: work_of(arms[arm], datasets[arms[arm].data]) for arm in dict.fromkeys(unit.arm for unit in units)}
    lines = []
    for pack in packs:
        works = [work[unit.arm] for unit in pack.units]
        seconds = foreseen_seconds(study, pack, works, gains)
        lines.append(Line(_names(pack), _how(pack), tuple(work.steps for work in works), seconds))
    return Foreseen(len(units), len(study.units), tuple(lines))


def print_dry_run(name: str, foreseen: Foreseen, console: Console) -> None:
    """Prints what the study of this name would do, and about how long it would take."""
    table = Table(title=escape(f"{name}: {foreseen.to_do} of {foreseen.of} runs to do"))
    for column, justify in (("runs", "left"), ("trained", "left"), ("steps", "right"), ("about", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for line in foreseen.lines:
        steps = sorted(set(line.steps))
        numbers = "–".join(f"{n:,}" for n in (steps[:1] + steps[1:][-1:]))
        table.add_row(escape(line.runs), escape(line.trained), numbers, _time(line.seconds))
    total = sum(line.seconds for line in foreseen.lines)
    console.print(table)
    if not math.isnan(total):
        told = f"about {_time(total)} in all, one after another, without what is compiled first"
        console.print(told, highlight=False)


def work_of(config: Config, dataset: AnyDataset) -> Work:
    """What a run of this config does on its data."""
    summary, train = dataset.summary, config.train
    model, kept = build_model(config.model, summary), kept_features(config, summary)
    whole = step_multiply_adds(model, summary.shape, 1)
    above = step_multiply_adds(model, summary.shape, 1, kept.after, kept.shape) if kept else whole
    below = (whole - above) * sum(summary.sizes.values()) // 3  # forward alone
    if config.head.name != "sgd":
        return Work(0, 0, below)
    per_epoch = summary.sizes["train"] // train.batch_size
    steps = max(1, round(train.epochs * per_epoch))
    evaluated = (
        len(boundaries(steps, per_epoch, train.eval_every)) * summary.sizes["validation"] + summary.sizes["test"]
    )
    step = above * train.batch_size
    return Work(steps, step, steps * step + evaluated * above // 3 + below)


def foreseen_seconds(study: Study, pack: Pack, works: Sequence[Work], gains: Sequence[Gain]) -> float:
    """How long a pack will take: an arm of which runs have finished as they did, another as its multiply-adds do at the
    pace of a convnet, which is measured once for a machine; not a number where it was not."""
    # Of the largest that was measured: on a GPU a small one takes as long as it takes to be launched.
    largest = max(gains, key=lambda gain: gain.multiply_adds, default=None)
    pace = largest.seconds / largest.multiply_adds if largest else math.nan
    seconds = 0.0
    for unit, work in zip(pack.units, works, strict=True):
        finished = finished_seconds(study, [unit.arm])
        gain = 1.0 if pack.form is None else expected_gain(gains, work.step)[1]
        seconds += sum(finished) / len(finished) if finished else work.all * pace / gain
    return seconds


def finished_seconds(study: Study, arms: Collection[str]) -> list[float]:
    """How long each run of these arms that has finished took."""
    statuses = [read_status(unit) for unit in study.units if unit.arm in arms]
    # What was waited for data is a part of the training.
    return [
        sum(seconds for kind, seconds in status["seconds"].items() if kind != "data_wait")
        for status in statuses
        if status.get("state") == "finished"
    ]


def _names(pack: Pack) -> str:
    seeds: dict[str, list[str]] = {}
    for unit in pack.units:
        seeds.setdefault(unit.arm, []).append(str(unit.seed))
    return "; ".join(f"{arm} seed{'s' * (len(those) > 1)} {', '.join(those)}" for arm, those in seeds.items())


def _how(pack: Pack) -> str:
    return "alone" if pack.form is None else f"{len(pack.units)} together ({pack.form})"


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "not known"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
