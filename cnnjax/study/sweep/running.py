"""Running a sweep: what its search asks for next, until nothing is left, and then the test of the best trials."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Console

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.streamed import AnyDataset
from cnnjax.study.arms import order_arms
from cnnjax.study.engine import Engine
from cnnjax.study.files import write_json
from cnnjax.study.records import write_hyperparameters
from cnnjax.study.run import Extent
from cnnjax.study.runner import load_datasets, unfinished
from cnnjax.study.sweep.halving import batches_to_come, rungs
from cnnjax.study.sweep.ranking import (
    Standing,
    best_trial,
    failed_units,
    run_scores,
    rung_scores,
    standings,
    units_by_arm,
)
from cnnjax.study.sweep.search import Point
from cnnjax.study.sweep.tpe import Asker, kept_alive, name_in_storage, open_storage
from cnnjax.study.sweep.trials import Sweep, trial_name
from cnnjax.study.workdir import Study, Unit, read_status, write_study
from cnnjax.train.interruption import Interruption


@dataclasses.dataclass(frozen=True)
class Means:
    """What a study is run with.

    Attributes:
      datasets: of the arms' configs; added to.
      engine: that trains the trials.
      storage: Optuna's, that launchers share; None for a file in the workdir.
      console, interruption: as in `run_study`.
    """

    datasets: dict[DataConfig, AnyDataset]
    engine: Engine
    storage: Any | None
    console: Console
    interruption: Interruption

    def run(self, study: Study, units: Sequence[Unit], extent: Extent) -> Study:
        """Runs these units as far as is wanted, and returns the study; see `run_study`."""
        units = self._runnable(study, units)
        if not units:
            return study
        far = "" if extent.until is None else f", up to epoch {extent.until:g}"
        to_do = f"{len(units)} of {len(study.units)} runs to do in {study.folder}{far}"
        self.console.print(to_do, markup=False, highlight=False, soft_wrap=True)
        trials = _sweep(study).trials
        for unit in units:
            if trial := trials.get(unit.arm):
                write_hyperparameters(unit.folder, {"arm": trial.arm, "seed": unit.seed, **trial.point})
        return self.engine.run(study, units, self.datasets, self.console, self.interruption, extent)

    def _runnable(self, study: Study, units: Sequence[Unit]) -> list[Unit]:
        """The units, their data loaded, without those that cannot be run, which have failed: Optuna asks for trials
        without knowing better."""
        by_arm: dict[str, list[Unit]] = {}
        for unit in units:
            by_arm.setdefault(unit.arm, []).append(unit)
        wrong = {arm: reason for arm, of_arm in by_arm.items() if (reason := self._what_is_wrong(study, of_arm))}
        for arm, reason in wrong.items():
            self.console.print(f"{arm}: cannot be run: {reason}", markup=False, highlight=False, soft_wrap=True)
            for unit in by_arm[arm]:
                unit.folder.mkdir(parents=True, exist_ok=True)
                write_json(unit.folder / "status.json", {"state": "failed", "error": reason})
        return [unit for unit in units if unit.arm not in wrong]

    def _what_is_wrong(self, study: Study, units: Sequence[Unit]) -> str | None:
        """Why the runs of an arm cannot be run, None if they can; their data are loaded."""
        # Trials that were known beforehand have been checked with the request.
        if _sweep(study).search != "tpe" and study.experiment.arms[units[0].arm].data in self.datasets:
            return None
        try:
            with self.interruption.nothing_to_save():
                self.datasets.update(load_datasets(study, units, self.datasets))
                self.engine.check(study, units, self.datasets)
        except RequestError as error:
            return str(error)
        return None


def run_sweep(study: Study, means: Means) -> Study:
    """Runs what is not done of a sweep, and returns the study with all its trials; `study.json` is kept up to date.

    The trials read the validation split alone; the best one of each arm reads the test split, once, when all are done.
    Arms that are not swept are run first, as in any study: trials may take filters from them.

    Raises:
      DiskFull, Stopped: see `run_study`.
    """
    swept = _sweep(study).dimensions
    trials = [name for arm in swept for name in _sweep(study).of_arm(arm)]
    alone = [unit for unit in unfinished(study) if unit.arm not in (*swept, *trials)]
    study = means.run(study, alone, Extent(test=True))
    study, settled = _RUN[_sweep(study).search](study, means)
    best = [trial for arm in settled if (trial := best_trial(study, arm))]
    units = units_by_arm(study)
    untested = [unit for trial in best for unit in units[trial] if "test" not in read_status(unit)["metrics"]]
    study = means.run(study, untested, Extent(test=True))
    failed = any(read_status(unit).get("state") == "failed" for unit in study.units)
    study = _with_sweep(study, complete=len(settled) == len(swept) and not failed)
    write_study(study)
    return study


def _run_all(study: Study, means: Means) -> tuple[Study, list[str]]:
    """Runs all trials to their end. Returns the study, and the arms whose best trial is settled."""
    to_do = [unit for unit in unfinished(study) if unit.arm in _sweep(study).trials]
    study = means.run(study, to_do, Extent(test=False))
    return study, list(_sweep(study).dimensions)


def _run_rungs(study: Study, means: Means) -> tuple[Study, list[str]]:
    """Runs rung after rung; arms that are at the same one together."""
    # What failed in an earlier call (memory was full, say) is tried once more in this one, as in a grid.
    again = failed_units(study)
    while batch := _next_rung(study, again):
        units, extent = batch
        study = means.run(study, units, extent)
        again.difference_update(units)
    return study, list(_sweep(study).dimensions)


def _next_rung(study: Study, again: Collection[Unit]) -> tuple[list[Unit], Extent] | None:
    """The runs to be trained next, and how far; None where all is done.

    Args:
      study: how far it is.
      again: runs that failed and may be tried once more.
    """
    section, units = study.experiment.study, units_by_arm(study)
    batches: dict[float, list[Unit]] = {}
    lengths: dict[float, float] = {}
    to_come = 0.0  # epochs, of all runs
    for arm in _sweep(study).dimensions:
        train = _sweep(study).bases[arm].train
        epochs = rungs(train.epochs, section.min_epochs, section.eta)
        to_climb = [end - before for before, end in zip((0.0, *epochs), epochs, strict=False)]
        found = batches_to_come(rung_scores(study, arm, epochs, again), len(epochs), section.eta, section.slots)
        to_come += sum(study.seeds * len(trials) * to_climb[rung] for rung, trials in found)
        if found:
            rung, trials = found[0]
            wanted = [unit for trial in trials for unit in units[trial]]
            reached = {u: len(run_scores(u, epochs, train.eval_every, again=u in again)) for u in wanted}
            fresh = [unit for unit, count in reached.items() if count <= rung]
            until = math.inf if rung == len(epochs) - 1 else epochs[rung]
            batches.setdefault(until, []).extend(fresh)
            lengths[until] = max(lengths.get(until, 0.0), to_climb[rung])
    if not batches:
        return None
    until = min(batches)
    later = max(0.0, to_come / lengths[until] - len(batches[until]))
    return batches[until], Extent(None if until == math.inf else until, test=False, later=later)


def _run_asked(study: Study, means: Means) -> tuple[Study, list[str]]:
    """Runs what Optuna asks for, `slots` trials of each arm at a time, and tells it what they scored."""
    study, _ = _run_all(study, means)
    sweep = _sweep(study)
    storage = means.storage or open_storage(f"sqlite:///{study.folder.resolve()}/optuna.db", shared=False)
    askers = {}
    for arm, dimensions in sweep.dimensions.items():
        configs = order_arms(sweep.bases, [arm])
        name = name_in_storage(study.experiment.name, arm, configs, study.seeds, sweep.flags)
        askers[arm] = Asker(storage, name, dimensions, sweep.owner, str(study.folder))
    with kept_alive(askers.values()):
        study = _ask_and_tell(study, means, askers)
    reasons = {arm: asker.others() for arm, asker in askers.items()}
    for arm, reason in reasons.items():
        if reason:
            means.console.print(f"{arm}: {reason}", markup=False, highlight=False, soft_wrap=True)
    return study, [arm for arm, reason in reasons.items() if not reason]


def _ask_and_tell(study: Study, means: Means, askers: Mapping[str, Asker]) -> Study:
    """Runs what the askers ask for until that is nothing. Returns the study."""
    count = _sweep(study).count or 0
    while True:
        for asker in askers.values():
            if not asker.asked():
                asker.ask(study.experiment.study.slots, count)
        asked = {arm: asker.asked() for arm, asker in askers.items()}
        if not any(asked.values()):
            return study
        study = _with_points(study, asked)
        write_study(study)
        names = {name for arm, points in asked.items() for name in _names(study, arm, points).values()}
        left = sum(max(0, count - len(_sweep(study).of_arm(arm))) for arm in askers)
        to_do = [unit for unit in unfinished(study) if unit.arm in names]
        study = means.run(study, to_do, Extent(test=False, later=study.seeds * left))
        for arm, points in asked.items():
            scores = {standing.name: _score(standing) for standing in standings(study, arm)}
            for number, name in _names(study, arm, points).items():
                askers[arm].tell(number, scores[name])


def _names(study: Study, arm: str, points: Mapping[int, Point]) -> dict[int, str]:
    dimensions = _sweep(study).dimensions[arm]
    return {number: trial_name(arm, dimensions, point) for number, point in points.items()}


def _score(standing: Standing) -> float | None:
    """What Optuna is told: a run that diverges is as bad as can be, and one that fails says nothing."""
    if standing.state == "finished":
        return standing.validation.mean
    return 0.0 if standing.state == "diverged" else None


def _with_points(study: Study, asked: Mapping[str, Mapping[int, Point]]) -> Study:
    """The study with these trials, by arm and number, as arms."""
    sweep = _sweep(study)
    for arm, points in asked.items():
        sweep = sweep.with_trials(arm, list(points.values()))
    section = study.experiment.study
    arms = {name: dataclasses.replace(config, study=section) for name, config in sweep.arms.items()}
    experiment = dataclasses.replace(study.experiment, arms=arms)
    return dataclasses.replace(study, experiment=experiment, sweep=sweep)


def _with_sweep(study: Study, *, complete: bool) -> Study:
    return dataclasses.replace(study, sweep=dataclasses.replace(_sweep(study), complete=complete))


def _sweep(study: Study) -> Sweep:
    assert study.sweep is not None
    return study.sweep


_RUN: dict[str, Callable[[Study, Means], tuple[Study, list[str]]]] = {
    "grid": _run_all,
    "random": _run_all,
    "sobol": _run_all,
    "halving": _run_rungs,
    "tpe": _run_asked,
}
