"""What is done in a study's folder, mode by mode: to run, to report, to measure."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from etils import epath
from rich.console import Console

from cnnjax.analysis.measures import MEASURES
from cnnjax.config import RequestError, nearest, override
from cnnjax.study.dry_run import foresee_runs, print_dry_run
from cnnjax.study.engine import open_engine, share_devices
from cnnjax.study.experiment import Experiment
from cnnjax.study.feature_files import FileStore
from cnnjax.study.measuring import measure_study, to_measure
from cnnjax.study.request import OK, SOME_FAILED, Request
from cnnjax.study.results import collect, troubles
from cnnjax.study.run import Extent
from cnnjax.study.runner import load_datasets, unfinished
from cnnjax.study.screening import choose_top
from cnnjax.study.summary import print_summary, require_finished
from cnnjax.study.sweep.dry_run import foresee_sweep
from cnnjax.study.sweep.ranking import compared
from cnnjax.study.sweep.request import read_sweep, to_check
from cnnjax.study.sweep.running import Means, run_sweep
from cnnjax.study.sweep.tpe import open_storage
from cnnjax.study.workdir import Study, Unit, claim, machine, open_study, read_study, write_study
from cnnjax.train.compilation_cache import keep_compilations
from cnnjax.train.interruption import Interruption


def _workdir(request: Request) -> epath.Path:
    if not request.workdir:
        raise RequestError("--workdir: not given; name a folder for the study, such as runs/my_study")
    return epath.Path(request.workdir).expanduser()


def run(request: Request, console: Console, interruption: Interruption) -> int:
    """Trains what has not finished and reports; or, on a dry run, prints what that would be."""
    share_devices(request.engine)
    experiment, folder = request.experiment(), _workdir(request)
    if request.top is not None and not experiment.screening:
        raise RequestError(f"--top: {request.config} screens no architectures; leave it out")
    sweep = read_sweep(request.sweep, experiment, folder)
    study = open_study(folder, experiment, sweep)
    units = _wanted(request, experiment, study)
    lacking = to_measure(compared(study))
    if units or lacking or not _has_report(study) or (study.sweep and not study.sweep.complete):
        features = FileStore(folder) if study.sweep else None
        with interruption.nothing_to_save():
            checked = to_check(study, units)
            datasets = load_datasets(*checked)
            engine = open_engine(request.engine, folder, features)
            engine.check(*checked, datasets)
            if request.dry_run:
                foresee = foresee_sweep if study.sweep else foresee_runs
                print_dry_run(study.experiment.name, foresee(study, units, datasets, interruption), console)
                return OK
            # The last of all checks: a database is made where there was none.
            storage = open_storage(request.sweep.storage, shared=True) if request.sweep.storage else None
        with claim(folder):
            # Another process may have trained in it until now.
            study = open_study(folder, experiment, sweep)
            units = [unit for unit in unfinished(study) if unit in units]
            means = Means(datasets, engine, storage, console, interruption)
            study = _train(study, units, request, means)
            if features:
                features.clear()
    elif request.dry_run:
        console.print(f"all {len(study.units)} runs are done in {folder}", highlight=False, soft_wrap=True)
        return OK
    with interruption.nothing_to_save():
        print_summary(study, collect(study), console)
    return SOME_FAILED if troubles(study) else OK


def _wanted(request: Request, experiment: Experiment, study: Study) -> list[Unit]:
    """The runs to do: all that have not finished, unless the request names arms or a number of seeds. Of a sweep, its
    search decides which of them are run; none, once it is complete."""
    if study.sweep:
        return [] if study.sweep.complete else unfinished(study)
    arms = study.experiment.arms if request.arms is None else experiment.arms
    says_seeds = request.seeds is not None or "study.seeds" in request.changes
    seeds = experiment.study.seeds if says_seeds else study.seeds
    units = [unit for unit in unfinished(study) if unit.arm in arms and unit.seed < seeds]
    parts = list(_parts(study, units, None))
    if request.top is not None and not parts[0]:
        return [unit for part in _parts(study, units, request.top) for unit in part]
    return units


def _parts(study: Study, units: list[Unit], top: int | None) -> Iterator[list[Unit]]:
    """The units one after another: of a screening first all but those to be trained in full, and then these, all of
    them or the `top` that the random filters choose, which is known once the first part has run."""
    screening = study.experiment.screening
    trained = {arm for _, arm in screening.values()}
    yield [unit for unit in units if unit.arm not in trained]
    chosen = trained if top is None else choose_top(collect(study), screening, top)
    yield [unit for unit in units if unit.arm in trained and unit.arm in chosen]


def _has_report(study: Study) -> bool:
    return study.reported and all((study.folder / name).exists() for name in ("results.csv", "report.html"))


def _train(study: Study, units: list[Unit], request: Request, means: Means) -> Study:
    """Trains the units, of a screening only the `top` that it chooses, or goes on with a sweep; and writes the report.

    Returns the study with all trials of a sweep.
    """
    study = dataclasses.replace(study, machine=machine() if units else study.machine, reported=False)
    write_study(study)
    keep_compilations()
    if study.sweep and not study.sweep.complete:
        study = run_sweep(study, means)
        units = []
    wanted = len(units)
    for part in filter(None, _parts(study, units, request.top)):
        wanted -= len(part)
        to_do = f"{len(part)} of {len(study.units)} runs to do in {study.folder}"
        means.console.print(to_do, highlight=False, soft_wrap=True)
        study = means.engine.run(
            study, part, means.datasets, means.console, means.interruption, Extent(later=max(0, wanted))
        )
    with means.interruption.nothing_to_save():
        try:
            measure_study(compared(study), means.datasets, means.console)
        finally:
            _write_report(study)
        write_study(dataclasses.replace(study, reported=True))
    return study


def _write_report(study: Study) -> None:
    # What draws takes most of a second to load, and a finished study is not drawn again.
    from cnnjax.study.report import write_report

    write_report(study)


def report(request: Request, console: Console, interruption: Interruption) -> int:
    """Makes the report anew from what has finished."""
    with interruption.nothing_to_save():
        study = _read_study(request)
        results = collect(study)
        require_finished(study, results)
        _write_report(study)
        print_summary(study, results, console)
    return SOME_FAILED if troubles(study) else OK


def measure(request: Request, console: Console, interruption: Interruption) -> int:
    """Measures the finished runs of a study, all or those of the arms and seeds that the flags name, by its own config
    but for what the flags say of `measures`."""
    with interruption.nothing_to_save():
        study = _read_study(request)
        for name in request.arms or []:
            if name not in study.experiment.arms:
                raise RequestError(f"--arms: unknown arm {name!r}; {nearest(name, study.experiment.arms)}")
        study = _with_measures(study, request.arms, request.changes)
        wanted = [
            unit
            for unit in study.units
            if (request.arms is None or unit.arm in request.arms)
            and (request.seeds is None or unit.seed < request.seeds)
        ]
        require_finished(study, collect(study))
        keep_compilations()
        with claim(study.folder):
            measure_study(compared(study), {}, console, wanted)
            write_study(dataclasses.replace(study, reported=False))
            _write_report(study)
            write_study(dataclasses.replace(study, reported=True))
        print_summary(study, collect(study), console)
    return SOME_FAILED if troubles(study) else OK


def _read_study(request: Request) -> Study:
    """The study in the workdir.

    Raises:
      RequestError: if there is none, or it is of another experiment than the one that is named.
    """
    study = read_study(_workdir(request))
    if request.config and Path(request.config).stem != study.experiment.name:
        own = f"the study in {study.folder} is of {study.experiment.name}"
        raise RequestError(f"--config: {own}, not of {request.config}; leave it out")
    return study


def _with_measures(study: Study, names: Collection[str] | None, changes: Mapping[str, str]) -> Study:
    """The study with the fields of `measures` changed in these arms; None for all."""
    for path in changes:
        if not path.startswith("measures."):
            raise RequestError(f"--config.{path}: --mode=measure changes nothing but --config.measures")
    arms = dict(study.experiment.arms)
    changed = {arm: override(arms[arm], changes) for arm in (arms if names is None else names)}
    if not any(config.measures.names for config in changed.values()):
        raise RequestError(f"--config.measures.names: none given; there are: {', '.join(MEASURES)}")
    return dataclasses.replace(study, experiment=dataclasses.replace(study.experiment, arms=arms | changed))
