"""Runs of a study that are trained together, or one alone, from their configs to their finished statuses, going on
from where they were."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from cnnjax.analysis.gradients import gradient_norms
from cnnjax.analysis.subject import Subject
from cnnjax.config import Config, DataConfig, to_dict
from cnnjax.data.dataset import Dataset
from cnnjax.filters.plan import Flat
from cnnjax.study.closed_form import run_head
from cnnjax.study.files import write_json
from cnnjax.study.packs import Pack
from cnnjax.study.progress import StudyProgress
from cnnjax.study.records import MetricsFile, Row
from cnnjax.study.sources import read_sources
from cnnjax.study.workdir import FORMAT, Unit
from cnnjax.train.assembly import (
    Assembly,
    Member,
    Shared,
    assemble_alone,
    assemble_together,
    best_variables,
    make_member,
    sizes_of,
)
from cnnjax.train.checkpoint import Checkpoint, Checkpoints
from cnnjax.train.devices import AXIS
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.loop import Listeners, Plan, evaluate, fit
from cnnjax.train.optimiser import learning_rate
from cnnjax.train.program import Report
from cnnjax.train.setup import build_model
from cnnjax.train.state import Best, TrainState
from cnnjax.train.step import variables_of

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Extent:
    """How far runs are taken.

    Attributes:
      until: epochs, after which a run is paused at its next evaluation; None for its end.
      test: whether the test split is read at its end. It is read once: of a finished run it is asked later, if at all.
    """

    until: float | None = None
    test: bool = True


WHOLE = Extent()


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run that is ready to be trained: what it is, where it goes on from, and where it writes.

    Attributes:
      plan: its member's, no longer than it is wanted.
      saved: None at the start.
      seconds: of `train` and `preparation` so far; of runs trained together each has its share. Changed as it trains.
    """

    unit: Unit
    config: Config
    dataset: Dataset
    member: Member
    plan: Plan
    saved: Checkpoint | None
    checkpoints: Checkpoints
    metrics: MetricsFile
    seconds: dict[str, float]

    def about(self, step: int) -> Row:
        """How every row of the metrics begins."""
        return {"step": step, "epoch": round(step / self.member.steps_per_epoch, 6)}


def run_pack(
    pack: Pack,
    configs: Mapping[str, Config],
    datasets: Mapping[DataConfig, Dataset],
    shared: Shared,
    folder: epath.Path,
    progress: StudyProgress,
    interruption: Interruption,
    extent: Extent,
) -> dict[Unit, str]:
    """Trains runs as far as is wanted and writes their statuses, metrics and checkpoints into their folders.

    Args:
      pack: the runs, one alone or several of one shape.
      configs: of the arms.
      datasets: by the configs' data.
      shared: of the study; added to.
      folder: of the study.
      progress: told how far they are.
      interruption: looked at between dispatches.
      extent: how far.

    Returns:
      What became of each run: `finished`, `paused` or `diverged`.

    Raises:
      Stopped: after a signal, once the states are saved.
    """
    for unit in pack.units:
        config = configs[unit.arm]
        unit.folder.mkdir(parents=True, exist_ok=True)
        about = {"arm": unit.arm, "seed": unit.seed, "dataset": dataclasses.asdict(datasets[config.data].summary)}
        write_json(unit.folder / "config.json", {"format": FORMAT, "config": to_dict(config), **about})
        write_json(unit.folder / "status.json", {"state": "running"})
    first = configs[pack.units[0].arm]
    if first.head.name != "sgd":
        (unit,) = pack.units
        with interruption.nothing_to_save():
            sources = read_sources(first.filters, first.model.name, unit.seed, folder)
            try:
                status = run_head(unit, first, datasets[first.data], shared, sources, progress, interruption)
            except FloatingPointError as error:
                status = {"state": "diverged", "error": str(error)}
            write_json(unit.folder / "status.json", status)
        return {unit: status["state"]}
    with interruption.nothing_to_save():
        started = time.monotonic()
        members = []
        for unit in pack.units:
            config = configs[unit.arm]
            sources = read_sources(config.filters, config.model.name, unit.seed, folder)
            axis = AXIS if pack.form is None else None
            tell = progress.prepare
            members.append(
                make_member(config, datasets[config.data], unit.seed, shared, interruption, sources, tell, axis=axis)
            )
        if pack.form is None:
            assembly = assemble_alone(members[0], shared)
        else:
            assembly = assemble_together(members, pack.form, shared, pack.slots)
        preparation = time.monotonic() - started
    with contextlib.ExitStack() as files:
        runs = [
            files.enter_context(_opened(unit, member, configs, datasets, preparation / len(members), extent))
            for unit, member in zip(pack.units, members, strict=True)
        ]
        statuses = _train(runs, assembly, progress, interruption, extent)
    for unit, status in statuses.items():
        write_json(unit.folder / "status.json", status)
    return {unit: status["state"] for unit, status in statuses.items()}


@contextlib.contextmanager
def _opened(
    unit: Unit,
    member: Member,
    configs: Mapping[str, Config],
    datasets: Mapping[DataConfig, Dataset],
    preparation: float,
    extent: Extent,
) -> Iterator[_Run]:
    """A run with its files open."""
    config, plan = configs[unit.arm], member.plan
    if extent.until is not None:
        wanted = extent.until * member.steps_per_epoch
        plan = dataclasses.replace(plan, stop=next((b for b in plan.boundaries if b >= wanted), plan.steps))
    with contextlib.closing(Checkpoints(unit.folder / "checkpoints")) as checkpoints:
        saved = checkpoints.newest(_items(member.state, member))
        if saved:
            log.info("%s seed %d: going on from step %d", unit.arm, unit.seed, saved.step)
        seconds = {"train": saved.progress["seconds"]["train"] if saved else 0.0, "preparation": preparation}
        with contextlib.closing(MetricsFile(unit.folder, saved.step if saved else -1)) as metrics:
            yield _Run(unit, config, datasets[config.data], member, plan, saved, checkpoints, metrics, seconds)


def _train(
    runs: Sequence[_Run], assembly: Assembly, progress: StudyProgress, interruption: Interruption, extent: Extent
) -> dict[Unit, dict[str, Any]]:
    """Trains from what was saved as far as is wanted, reads the test split if it is, and returns the statuses."""
    program, plans = assembly.program, [run.plan for run in runs]
    steps = [run.saved.step if run.saved else 0 for run in runs]
    state = assembly.state
    if any(run.saved for run in runs):
        state = program.join([_state_of(run.saved) if run.saved else run.member.state for run in runs])
    statuses: dict[Unit, dict[str, Any]] = {}
    measured = {n: _gradients_function(run) for n, run in enumerate(runs) if "gradients" in run.config.measures.names}

    def on_evaluated(n: int, step: int, params: Flat, stats: Flat) -> None:
        if n in measured:
            runs[n].metrics.append({**runs[n].about(step), "split": "train", **measured[n](params, stats)})

    def on_report(n: int, step: int, report: Report) -> None:
        run, about = runs[n], runs[n].about(step)
        rate = learning_rate(run.config.optim, run.member.inputs.numbers, jax.numpy.int32(step - 1))
        extra = {"learning_rate": float(rate), "seconds": run.seconds["train"]}
        run.metrics.append({**about, "split": "train", **report.train.metrics(), **extra})
        run.metrics.append({**about, "split": "validation", **report.validation.metrics()})

    def on_diverged(n: int, reason: str) -> None:
        statuses[runs[n].unit] = {"state": "diverged", "error": reason}
        write_json(runs[n].unit.folder / "status.json", statuses[runs[n].unit])

    def on_save(n: int, step: int, state: TrainState) -> None:
        run = runs[n]
        run.checkpoints.save(step, _items(state, run.member), {"seconds": run.seconds})
        write_json(run.unit.folder / "status.json", {"state": "running", "step": step, "steps": run.plan.steps})

    def advance(steps: Sequence[int], taken: float) -> None:
        for run in runs:
            run.seconds["train"] += taken / len(runs)
        progress.advance(sum(steps) / sum(plan.stop for plan in plans))

    for n, run in enumerate(runs):
        if run.saved is None and n in measured:
            frozen, state_of = run.member.inputs.frozen, run.member.state
            on_evaluated(n, 0, {**frozen[0], **state_of.trained}, {**frozen[1], **state_of.stats})
    listeners = Listeners(on_evaluated if measured else None, on_report, on_diverged, on_save, advance)
    state = fit(program, state, steps, assembly.inputs, plans, listeners, interruption)
    best = best_variables(state, assembly.inputs.frozen)
    test = None
    if extent.test and any(run.plan.stop == run.plan.steps and run.unit not in statuses for run in runs):
        variables = best["params"], best["batch_stats"]
        feed, plan = assembly.inputs.held_out, plans[0]
        sums = evaluate(program, len(runs), *variables, feed, plan.test, plan, interruption)
        if sums is None:
            raise Stopped
        test = program.split(sums)
    for n, (run, ended) in enumerate(zip(runs, program.split(state), strict=True)):
        if run.unit not in statuses:
            tested = None if test is None else jax.device_get(test[n]).metrics()
            statuses[run.unit] = _status(run, ended, tested)
    return statuses


def _status(run: _Run, state: TrainState, test: dict[str, float] | None) -> dict[str, Any]:
    """Of a run that has come as far as was wanted."""
    plan = run.plan
    examples = plan.validation[1] - plan.validation[0]
    metrics = {"validation": {"accuracy": int(state.best.correct) / examples}}
    reached = {"step": plan.stop, "steps": plan.steps, "best_step": int(state.best.step)}
    if plan.stop < plan.steps:
        epoch = plan.stop / run.member.steps_per_epoch
        return {"state": "paused", **reached, "epoch": epoch, "metrics": metrics, "seconds": run.seconds}
    return {
        "state": "finished",
        **reached,
        "metrics": {**metrics, **({"test": test} if test else {})},
        **sizes_of(run.member.blueprint),
        "seconds": run.seconds,
    }


def _gradients_function(run: _Run) -> Callable[[Flat, Flat], Row]:
    """The measure `gradients` of variables on their way: `gradient_norm/<path>` of each kernel."""
    summary, settings = run.dataset.summary, run.config.measures
    model = build_model(run.config.model, summary)
    images, labels = run.dataset.train.images[: settings.images], run.dataset.train.labels[: settings.images]
    key = jax.random.key(run.unit.seed)

    def measure(params: Flat, stats: Flat) -> Row:
        variables = variables_of(*jax.device_get((params, stats)))
        subject = Subject(model, variables, summary.mean, summary.std, summary.low, summary.high)
        found = gradient_norms(subject, images, labels, key=key, batch_size=settings.batch_size)
        return {f"{it.metric}/{it.stage}": it.value for it in found if it.metric == "gradient_norm"}

    return measure


def _items(state: TrainState, member: Member) -> dict[str, Any]:
    """What a checkpoint holds: `best`, all variables of the best evaluation, and `state`, the rest of the state."""
    scores = {"correct": state.best.correct, "step": state.best.step}
    return {
        "best": best_variables(state, member.inputs.frozen),
        "state": {**state._asdict(), "best": scores},
    }


def _state_of(saved: Checkpoint) -> TrainState:
    """The state that `_items` took apart."""
    values, variables = saved.items["state"], saved.items["best"]
    trained = {path: variables["params"][path] for path in values["trained"]}
    stats = {path: variables["batch_stats"][path] for path in values["stats"]}
    return TrainState(**{**values, "best": Best(trained, stats, **values["best"])})
