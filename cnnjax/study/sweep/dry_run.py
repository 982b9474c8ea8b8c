"""What a sweep would do, and about how long it would take, before anything is done."""

import dataclasses
from collections.abc import Mapping, Sequence

from cnnjax.config import DataConfig
from cnnjax.data.streamed import AnyDataset
from cnnjax.study.dry_run import Foreseen, Line, finished_seconds, foresee_runs
from cnnjax.study.sweep.halving import batches_to_come, rungs
from cnnjax.study.sweep.ranking import failed_units, rung_scores, units_by_arm
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train.interruption import Interruption


def foresee_sweep(
    study: Study, units: Sequence[Unit], datasets: Mapping[DataConfig, AnyDataset], interruption: Interruption
) -> Foreseen:
    """The units that are to do, pack by pack; of a search that decides as it goes what is trained next, and how far,
    what that comes to for each arm.

    `halving` is foreseen rung by rung, by how many trials go on to each; `tpe` by how many trials are left, which are
    taken to last as those that have finished, or else as the arm's own config says. Optuna's storage is not looked at:
    other launchers may have asked for some of them.
    """
    sweep = study.sweep
    assert sweep is not None
    if sweep.search not in ("halving", "tpe"):
        return foresee_runs(study, units, datasets, interruption)
    alone = [unit for unit in units if unit.arm not in {*sweep.dimensions, *sweep.trials}]
    found = [foresee_runs(study, alone, datasets, interruption)]
    foresee = _foresee_rungs if sweep.search == "halving" else _foresee_asked
    found += [foresee(study, arm, datasets, interruption) for arm in sweep.dimensions]
    others = study.seeds * sum(arm not in sweep.dimensions for arm in sweep.bases)
    return Foreseen(
        sum(part.to_do for part in found),
        others + sum(part.of for part in found[1:]),
        tuple(line for part in found for line in part.lines),
    )


def _foresee_rungs(
    study: Study, arm: str, datasets: Mapping[DataConfig, AnyDataset], interruption: Interruption
) -> Foreseen:
    """What `halving` trains of an arm: one line for each rung."""
    assert study.sweep is not None
    section, units = study.experiment.study, units_by_arm(study)
    epochs = rungs(study.sweep.bases[arm].train.epochs, section.min_epochs, section.eta)
    scores = rung_scores(study, arm, epochs, failed_units(study))
    batches = batches_to_come(scores, len(epochs), section.eta, section.slots)
    lines = []
    for rung, (before, end) in enumerate(zip((0.0, *epochs), epochs, strict=False)):
        of_rung = [trials for at, trials in batches if at == rung]
        if not of_rung:
            continue
        share = (end - before) / epochs[-1]
        whole = [
            line
            for trials in of_rung
            for line in foresee_runs(study, [u for t in trials for u in units[t]], datasets, interruption).lines
        ]
        lines.append(
            Line(
                f"{arm}: {sum(map(len, of_rung))} trials, from epoch {before:g} to {end:g}",
                f"{section.slots} trials at a time, {whole[0].trained}",
                tuple(round(share * steps) for line in whole for steps in line.steps),
                share * sum(line.seconds for line in whole),
            )
        )
    climbing = {trial for _, trials in batches for trial in trials}
    return Foreseen(study.seeds * len(climbing), study.seeds * len(scores), tuple(lines))


def _foresee_asked(
    study: Study, arm: str, datasets: Mapping[DataConfig, AnyDataset], interruption: Interruption
) -> Foreseen:
    """What `tpe` trains of an arm: one line."""
    sweep, slots = study.sweep, study.experiment.study.slots
    assert sweep is not None
    trials, count = sweep.of_arm(arm), sweep.count or 0
    states = [read_status(unit).get("state") for unit in study.units if unit.arm in trials]
    runs = study.seeds * count
    left = runs - sum(state in ("finished", "diverged") for state in states)
    if left <= 0:
        return Foreseen(0, runs, ())
    experiment = dataclasses.replace(study.experiment, arms=sweep.bases)
    batch = [Unit(arm, number, study.folder / "runs" / arm) for number in range(min(left, study.seeds * slots))]
    lines = foresee_runs(dataclasses.replace(study, experiment=experiment), batch, datasets, interruption).lines
    finished = finished_seconds(study, trials) or [sum(line.seconds for line in lines) / len(batch)]
    line = Line(
        f"{arm}: {-(-left // study.seeds)} trials that Optuna asks for",
        f"{slots} trials at a time, {lines[0].trained}",
        lines[0].steps,
        left * sum(finished) / len(finished),
    )
    return Foreseen(left, runs, (line,))
