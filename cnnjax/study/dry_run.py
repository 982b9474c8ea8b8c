"""What a study would do, and about how long it would take, before anything is done."""

import dataclasses
from collections.abc import Mapping, Sequence

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


def print_dry_run(
    study: Study,
    units: Sequence[Unit],
    datasets: Mapping[DataConfig, AnyDataset],
    console: Console,
    interruption: Interruption,
) -> None:
    """Prints the units that are to do, pack by pack, and about how long each will take. Writes nothing.

    An arm of which runs have finished is taken to last as they did; another as long as its multiply-adds do at the pace
    of a small convnet, which is measured once for a machine.
    """
    arms = study.experiment.arms
    packs, _ = choose_packs(units, arms, datasets, study.packs, interruption)
    gains = backend_gains(interruption)
    table = Table(title=escape(f"{study.experiment.name}: {len(units)} of {len(study.units)} runs to do"))
    for name, justify in (("runs", "left"), ("trained", "left"), ("steps", "right"), ("about", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    total = 0.0
    for pack in packs:
        works = [work_of(arms[unit.arm], datasets[arms[unit.arm].data]) for unit in pack.units]
        seconds = foreseen_seconds(study, pack, works, gains)
        total += seconds
        steps = sorted({work.steps for work in works})
        table.add_row(
            escape(_names(pack)), _how(pack), "–".join(f"{n:,}" for n in (steps[:1] + steps[1:][-1:])), _time(seconds)
        )
    console.print(table)
    console.print(f"about {_time(total)} in all, one after another, without what is compiled first", highlight=False)


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
    """How long a pack will take, by the runs of its arms that have finished, or else by what they do."""
    pace = gains[0].seconds / gains[0].multiply_adds
    seconds = 0.0
    for unit, work in zip(pack.units, works, strict=True):
        finished = _finished_seconds(study, unit.arm)
        gain = 1.0 if pack.form is None else expected_gain(gains, work.step)[1]
        seconds += sum(finished) / len(finished) if finished else work.all * pace / gain
    return seconds


def _finished_seconds(study: Study, arm: str) -> list[float]:
    statuses = [read_status(unit) for unit in study.units if unit.arm == arm]
    return [sum(status["seconds"].values()) for status in statuses if status.get("state") == "finished"]


def _names(pack: Pack) -> str:
    seeds: dict[str, list[str]] = {}
    for unit in pack.units:
        seeds.setdefault(unit.arm, []).append(str(unit.seed))
    return "; ".join(f"{arm} seed{'s' * (len(those) > 1)} {', '.join(those)}" for arm, those in seeds.items())


def _how(pack: Pack) -> str:
    return "alone" if pack.form is None else f"{len(pack.units)} together ({pack.form})"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
