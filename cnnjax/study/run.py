"""Runs of a study that are trained together, or one alone, from their configs to their finished statuses, going on
from where they were."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from cnnjax.config import Config, DataConfig, to_dict
from cnnjax.data.streamed import AnyDataset
from cnnjax.filters.plan import Flat
from cnnjax.study.closed_form import run_head
from cnnjax.study.files import write_json
from cnnjax.study.open_run import OpenRun, gradients_function, opened
from cnnjax.study.packs import Pack
from cnnjax.study.profiling import Profile
from cnnjax.study.progress import PackProgress
from cnnjax.study.sources import read_sources
from cnnjax.study.workdir import FORMAT, Unit
from cnnjax.train import hosts
from cnnjax.train.assembly import Assembly, Member, assemble_alone, assemble_together, best_variables, make_member
from cnnjax.train.beginning import Shared
from cnnjax.train.devices import AXIS
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.loop import Listeners, evaluate, fit
from cnnjax.train.processes import several
from cnnjax.train.program import Report
from cnnjax.train.state import TrainState

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Extent:
    """How far runs are taken.

    Attributes:
      until: epochs, after which a run is paused, at the nearest evaluation; None for its end.
      test: whether the test split is read at its end. It is read once: of a finished run it is asked later, if at all.
      later: how many runs of as much work the study will do after these, which the time left counts.
    """

    until: float | None = None
    test: bool = True
    later: float = 0.0


WHOLE = Extent()


@dataclasses.dataclass(frozen=True)
class Work:
    """What runs are run with.

    Attributes:
      configs: of the arms.
      datasets: by the configs' data.
      shared: of the study; added to.
      folder: of the study.
      progress: of the runs; told how far they are.
      interruption: looked at between dispatches.
      extent: how far the runs are taken.
      peaks: floating-point operations per second that the devices can, by `train.precision`; those that are known.
      profile: of the devices; None for none.
    """

    configs: Mapping[str, Config]
    datasets: Mapping[DataConfig, AnyDataset]
    shared: Shared
    folder: epath.Path
    progress: PackProgress
    interruption: Interruption
    extent: Extent
    peaks: Mapping[str, float]
    profile: Profile | None = None

    def of(self, unit: Unit) -> tuple[Config, AnyDataset]:
        """A run's config and its data."""
        config = self.configs[unit.arm]
        return config, self.datasets[config.data]


def run_pack(pack: Pack, work: Work) -> dict[Unit, str]:
    """Trains runs, one alone or several of one shape, as far as is wanted, and writes their statuses, metrics and
    checkpoints into their folders.

    Returns:
      What became of each run: `finished`, `paused` or `diverged`.

    Raises:
      Stopped: after a signal, once the states are saved.
    """
    for unit in pack.units:
        config, dataset = work.of(unit)
        unit.folder.mkdir(parents=True, exist_ok=True)
        about = {"arm": unit.arm, "seed": unit.seed, "dataset": dataclasses.asdict(dataset.summary)}
        write_json(unit.folder / "config.json", {"format": FORMAT, "config": to_dict(config), **about})
        write_json(unit.folder / "status.json", {"state": "running"})
    in_closed_form = work.of(pack.units[0])[0].head.name != "sgd"
    statuses = {unit: _solve(unit, work) for unit in pack.units} if in_closed_form else _descend(pack, work)
    for unit, status in statuses.items():
        write_json(unit.folder / "status.json", status)
        if "speed" in status:
            log.info("%s seed %d: %s", unit.arm, unit.seed, speed_text(status["speed"], status["seconds"]))
    return {unit: status["state"] for unit, status in statuses.items()}


def speed_text(speed: Mapping[str, float], seconds: Mapping[str, float]) -> str:
    """How fast a run was trained, and what it took besides, by its status."""
    share = f" ({speed['peak_share']:.0%} of the peak)" if "peak_share" in speed else ""
    waited = f", waited for data for {seconds['data_wait']:.1f} s" if "data_wait" in seconds else ""
    return (
        f"{speed['images_per_second']:,.0f} images/s, {speed['flops_per_second'] / 1e9:,.1f} GFLOP/s{share}, "
        f"compiled in {seconds['compilation']:.1f} s{waited}"
    )


def _solve(unit: Unit, work: Work) -> dict[str, Any]:
    """The status of a run whose head is fitted in closed form, when it is."""
    config, dataset = work.of(unit)
    with work.interruption.nothing_to_save():
        sources = read_sources(config.filters, config.model.name, unit.seed, work.folder)
        try:
            return run_head(
                unit, config, dataset, work.shared, sources, work.progress, work.interruption, work.extent.test
            )
        except FloatingPointError as error:
            return {"state": "diverged", "error": str(error)}


def _descend(pack: Pack, work: Work) -> dict[Unit, dict[str, Any]]:
    """The statuses of runs that are trained step by step, when they are."""
    started = time.monotonic()
    if several():
        config, unit = work.of(pack.units[0])[0], pack.units[0]
        hosts.order({"config": to_dict(config), "seed": unit.seed})
    with work.interruption.nothing_to_save():
        members = [_make_member(unit, work, None if pack.form else AXIS) for unit in pack.units]
        prepared = time.monotonic()
        if pack.form is None:
            assembly = assemble_alone(members[0], work.shared)
        else:
            assembly = assemble_together(members, pack.form, work.shared, pack.slots)
        seconds = {"preparation": prepared - started, "compilation": time.monotonic() - prepared}
    before = {what: taken / len(members) for what, taken in seconds.items()}
    with contextlib.ExitStack() as files:
        for member in members:
            if member.streams:
                files.callback(member.streams.close)
        runs = [
            files.enter_context(opened(unit, *work.of(unit), member, before, work.extent.until))
            for unit, member in zip(pack.units, members, strict=True)
        ]
        return _train(runs, assembly, work)


def _make_member(unit: Unit, work: Work, axis: str | None) -> Member:
    config, dataset = work.of(unit)
    sources = read_sources(config.filters, config.model.name, unit.seed, work.folder)
    return make_member(
        config, dataset, unit.seed, work.shared, work.interruption, sources, work.progress.prepare, axis=axis
    )


def _train(runs: Sequence[OpenRun], assembly: Assembly, work: Work) -> dict[Unit, dict[str, Any]]:
    """Trains from what was saved as far as is wanted, reads the test split if it is, and returns the statuses."""
    state = assembly.state
    hosts.agree("start", [runs[0].step, runs[0].plan.stop], together=True)
    if several() or any(run.saved for run in runs):
        state = assembly.program.join([hosts.from_leader(run.state()) for run in runs])
    diverged: dict[Unit, dict[str, Any]] = {}
    with work.interruption.nothing_to_save():
        listeners = _listeners(runs, diverged, work)
    steps, plans = [run.step for run in runs], [run.plan for run in runs]
    with work.profile.traced() if work.profile else contextlib.nullcontext():
        state = fit(assembly.program, state, steps, assembly.inputs, plans, listeners, work.interruption)
    at_their_end = [run for run in runs if run.plan.stop == run.plan.steps and run.unit not in diverged]
    test = hosts.agree("test", work.extent.test and bool(at_their_end))
    tested = test_metrics(assembly, state, work.interruption) if test else [None] * len(runs)
    ended = assembly.program.split(state)
    reached = {
        run.unit: run.status(last, test, work.peaks.get(run.config.train.precision))
        for run, last, test in zip(runs, ended, tested, strict=True)
    }
    return {**reached, **diverged}


def _listeners(runs: Sequence[OpenRun], diverged: dict[Unit, dict[str, Any]], work: Work) -> Listeners:
    """Those that write what becomes of the runs into their files; the statuses of those that diverge are added."""
    waited, reached = [0.0] * len(runs), [run.step for run in runs]
    measured = {n: gradients_function(run) for n, run in enumerate(runs) if "gradients" in run.config.measures.names}

    def on_evaluated(n: int, step: int, params: Flat, stats: Flat) -> None:
        if n in measured:
            runs[n].append(step, "train", measured[n](params, stats))

    def on_report(n: int, step: int, report: Report) -> None:
        runs[n].report(step, report)

    def on_diverged(n: int, reason: str) -> None:
        diverged[runs[n].unit] = {"state": "diverged", "error": reason}
        write_json(runs[n].unit.folder / "status.json", diverged[runs[n].unit])

    def on_save(n: int, step: int, state: TrainState) -> None:
        runs[n].save(step, state)

    def advance(steps: Sequence[int], taken: float) -> None:
        moved = [n for n, step in enumerate(steps) if step > reached[n]]
        reached[:] = steps
        for n in moved:
            run = runs[n]
            run.seconds["train"] += taken / len(moved)
            if run.member.streams:
                run.seconds["data_wait"] += run.member.streams.waited - waited[n]
                waited[n] = run.member.streams.waited
        going = [n for n, run in enumerate(runs) if run.unit not in diverged]
        if work.profile:
            work.profile.advance()
        work.progress.advance(sum(steps[n] for n in going) / max(1, sum(runs[n].plan.stop for n in going)))

    for n, measure in measured.items():
        frozen, start = runs[n].member.inputs.frozen, runs[n].state()
        # Of a run that goes on nothing is kept; but what it will measure is compiled here, where a signal may end it.
        values = measure({**frozen[0], **start.trained}, {**frozen[1], **start.stats})
        if runs[n].saved is None:
            runs[n].append(0, "train", values)
    return Listeners(on_evaluated if measured else None, on_report, on_diverged, on_save, advance)


def test_metrics(assembly: Assembly, state: TrainState, interruption: Interruption) -> list[dict[str, float]]:
    """The best variables' metrics on the test split, of each run.

    Raises:
      Stopped: after a signal.
    """
    best, plan = best_variables(state, assembly.inputs.frozen), assembly.plans[0]
    runs = len(assembly.members)
    sums = evaluate(
        assembly.program, runs, best["params"], best["batch_stats"], assembly.inputs.held_out, plan.test, plan,
        interruption,
    )  # fmt: skip
    if sums is None:
        raise Stopped
    return [jax.device_get(each).metrics() for each in assembly.program.split(sums)]
