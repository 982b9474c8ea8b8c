"""How the trials of a sweep stand, from what is on disk: by the validation split alone."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cnnjax.study.experiment import Lines
from cnnjax.study.records import read_rows
from cnnjax.study.statistics import Estimate, estimate
from cnnjax.study.sweep.halving import Scores
from cnnjax.study.sweep.trials import Trial
from cnnjax.study.workdir import Study, Unit, read_status

FAILED = ("diverged", "failed")
# The best first: a trial that has come to its end has seen the most.
_STATES = ("finished", "paused", "running", "waiting", *FAILED)


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a trial stands.

    Attributes:
      name: the arm that it is.
      trial: where it comes from.
      validation: the best accuracy so far, over seeds; of no seeds if one of them has none.
      epochs: the fewest that a seed was trained.
      state: a run's; of several seeds, the one that is furthest from `finished`.
    """

    name: str
    trial: Trial
    validation: Estimate
    epochs: float
    state: str


def standings(study: Study, arm: str) -> list[Standing]:
    """The trials of a swept arm, the best first: those that have finished, then by how far they were trained, then by
    their mean accuracy on the validation split; equal ones in the order in which they began."""
    sweep = study.sweep
    assert sweep is not None
    units = units_by_arm(study)
    found = [_standing(study, name, sweep.trials[name], units.get(name, [])) for name in sweep.of_arm(arm)]
    return sorted(found, key=_place)


def _place(standing: Standing) -> tuple[int, float, float]:
    accuracy = standing.validation.mean if standing.validation.seeds else -math.inf
    epochs = 0.0 if standing.state == "finished" else standing.epochs
    # Rounded, so that the same number of hits is the same mean in whatever order the seeds are added up.
    return _STATES.index(standing.state), -epochs, -round(accuracy, 12)


def _standing(study: Study, name: str, trial: Trial, units: Sequence[Unit]) -> Standing:
    statuses = [read_status(unit) for unit in units]
    state = max((status.get("state", "waiting") for status in statuses), key=_STATES.index)
    epochs = study.experiment.arms[name].train.epochs
    seen = [_seen(unit, status, epochs) for unit, status in zip(units, statuses, strict=True)]
    known = [accuracy for accuracy, _ in seen if accuracy is not None]
    return Standing(
        name,
        trial,
        estimate(known if len(known) == len(units) and state not in FAILED else []),
        min(epochs for _, epochs in seen),
        state,
    )


def _seen(unit: Unit, status: Mapping[str, Any], epochs: float) -> tuple[float | None, float]:
    """A run's best validation accuracy so far, and the epochs that it was trained."""
    if status.get("state") == "finished":
        return status["metrics"]["validation"]["accuracy"], epochs
    rows = _validation(unit)
    return max((accuracy for _, accuracy in rows), default=None), max((epoch for epoch, _ in rows), default=0.0)


def _validation(unit: Unit) -> list[tuple[float, float]]:
    """Epoch and accuracy of each evaluation of a run on the validation split."""
    rows = [row for row in read_rows(unit.folder) if row["split"] == "validation"]
    return [(row["epoch"], row["accuracy"]) for row in rows if "epoch" in row]


def best_trial(study: Study, arm: str) -> str | None:
    """The trial of a swept arm that is best by the validation split; None before one has finished."""
    first = next(iter(standings(study, arm)), None)
    return first.name if first and first.state == "finished" else None


def rung_scores(study: Study, arm: str, rungs: Sequence[float], again: Collection[Unit] = ()) -> Scores:
    """What each trial of a swept arm scored at the rungs that it has reached, as `halving.next_batch` takes it: the
    best validation accuracy up to there, in the mean over seeds.

    Args:
      study, arm: whose trials.
      rungs: in epochs.
      again: runs that failed and may be tried again: as if they had stopped before.
    """
    assert study.sweep is not None
    units = units_by_arm(study)
    between = {name: study.experiment.arms[name].train.eval_every for name in study.sweep.of_arm(arm)}
    scores = {}
    for name, every in between.items():
        seeds = [run_scores(unit, rungs, every, again=unit in again) for unit in units[name]]
        # Adding -inf to whatever the other seeds scored leaves -inf.
        scores[name] = [math.fsum(found) / len(found) for found in zip(*seeds, strict=False)]
    return scores


def run_scores(unit: Unit, rungs: Sequence[float], eval_every: float, *, again: bool = False) -> list[float]:
    """A run's best validation accuracy at each rung that it has reached, and -inf at the next if it failed there and is
    not to be tried again.

    Read from the rows of its evaluations: what they are is decided by config, seed and step alone, whatever the run was
    given to do since.
    """
    status, rows = read_status(unit), _validation(unit)
    furthest = max((epoch for epoch, _ in rows), default=-math.inf)
    # An evaluation is at a whole step, not at the rung itself: the nearest one is meant.
    reached = [rung for rung in rungs[:-1] if furthest > rung - eval_every / 2]
    at = [min((abs(epoch - rung), epoch) for epoch, _ in rows)[1] for rung in reached]
    scores = [max(accuracy for epoch, accuracy in rows if epoch <= last) for last in at]
    state = status.get("state")
    if state == "finished":
        scores.append(status["metrics"]["validation"]["accuracy"])
    elif state in FAILED and not again:
        scores.append(-math.inf)
    return scores


def failed_units(study: Study) -> set[Unit]:
    """The runs of trials that have failed; not those that diverged, which they would do again."""
    trials = study.sweep.trials if study.sweep else {}
    return {unit for unit in study.units if unit.arm in trials and read_status(unit).get("state") == "failed"}


def units_by_arm(study: Study) -> dict[str, list[Unit]]:
    """The runs of each arm, by seed."""
    units: dict[str, list[Unit]] = {}
    for unit in study.units:
        units.setdefault(unit.arm, []).append(unit)
    return units


def compared(study: Study) -> Study:
    """The study as its report compares arms: of each swept arm the best trial, in its place; a study that is no sweep
    as it is. An arm none of whose trials has finished is there by its own name, without runs."""
    if study.sweep is None:
        return study
    bases = study.sweep.bases
    swept = study.sweep.dimensions
    names = {arm: (best_trial(study, arm) if arm in swept else None) or arm for arm in bases}
    baseline = study.experiment.study.baseline
    configs = {**bases, **study.experiment.arms}
    section = dataclasses.replace(study.experiment.study, baseline=names.get(baseline, baseline))
    drawn = study.experiment.lines
    lines = (
        {name: tuple(names[arm] for arm in arms if arm in names) for name, arms in drawn.arms.items()} if drawn else {}
    )
    experiment = dataclasses.replace(
        study.experiment,
        arms={name: dataclasses.replace(configs[name], study=section) for name in names.values()},
        lines=drawn and Lines(drawn.field, lines),
    )
    return dataclasses.replace(study, experiment=experiment)
