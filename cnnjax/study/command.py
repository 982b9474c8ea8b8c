"""What the command line can ask for, mode by mode."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping

from etils import epath
from rich.console import Console
from rich.table import Table

from cnnjax.analysis.measures import MEASURES
from cnnjax.config import Config, DataConfig, RequestError, choose, override
from cnnjax.data.dataset import Dataset, DataSummary, load_dataset
from cnnjax.models.description import describe
from cnnjax.study.experiment import Experiment, read_experiment
from cnnjax.study.files import is_disk_full
from cnnjax.study.measuring import measure_study, to_measure
from cnnjax.study.results import collect, troubles
from cnnjax.study.runner import DiskFull, load_datasets, run_study, unfinished
from cnnjax.study.screening import choose_top
from cnnjax.study.summary import print_summary, require_finished
from cnnjax.study.sweep.ranking import compared
from cnnjax.study.sweep.request import SweepFlags, read_sweep, to_check
from cnnjax.study.sweep.running import Means, run_sweep
from cnnjax.study.workdir import Study, Unit, claim, machine, open_study, read_study, write_study
from cnnjax.train.compilation_cache import keep_compilations
from cnnjax.train.interruption import Interruption
from cnnjax.train.setup import build_model, checked_blueprint

OK, SOME_FAILED, WRONG_REQUEST = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags.

    Attributes:
      mode: a key of `MODES`.
      config: the experiment's file; empty if not given.
      workdir: the study's folder; empty if not given.
      changes: the fields set by `--config.a.b=value`.
      arms: the names given; None for all.
      seeds: the number given; None for the config's.
      top: of a screening, how many architectures are trained in full; None for all.
      sweep: what is swept, and how.
      shape: of the images that a network is described for, in words; None for the data set's.
      classes: with a shape, how many the network tells apart.
    """

    mode: str
    config: str
    workdir: str
    changes: Mapping[str, str]
    arms: list[str] | None
    seeds: int | None
    top: int | None
    sweep: SweepFlags
    shape: list[str] | None
    classes: int


def execute(request: Request, interruption: Interruption) -> int:
    """Does what is asked, and returns the exit status: `OK`, `SOME_FAILED` (or a full disk), `WRONG_REQUEST`."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        return choose(MODES, request.mode, "--mode")(request, console, interruption)
    except RequestError as error:
        complain(str(error))
        return WRONG_REQUEST
    except DiskFull as error:
        complain(str(error))
        return SOME_FAILED
    except Exception as error:
        if is_disk_full(error):
            where = error.filename or request.workdir if isinstance(error, OSError) else ""
            complain(f"the disk is full: {where} cannot be written" if where else f"the disk is full: {error}")
            return SOME_FAILED
        if not isinstance(error, OSError):
            raise
        complain(f"{error.filename or request.workdir}: {error.strerror or error}")
        return WRONG_REQUEST


def complain(message: str) -> None:
    """Says what is wrong, in one line whatever the user or a library wrote into it."""
    print(" ".join(message.splitlines()), file=sys.stderr)


def _experiment(request: Request) -> Experiment:
    if not request.config:
        raise RequestError("--config: not given; name an experiment's file, such as experiments/random_filters.py")
    changes = dict(request.changes)
    if request.seeds is not None:
        changes["study.seeds"] = str(request.seeds)
    return read_experiment(request.config, changes, request.arms)


def _workdir(request: Request) -> epath.Path:
    if not request.workdir:
        raise RequestError("--workdir: not given; name a folder for the study, such as runs/my_study")
    return epath.Path(request.workdir).expanduser()


def _run(request: Request, console: Console, interruption: Interruption) -> int:
    experiment, folder = _experiment(request), _workdir(request)
    if request.top is not None and not experiment.screening:
        raise RequestError(f"--top: {request.config} screens no architectures; leave it out")
    sweep = read_sweep(request.sweep, experiment, folder)
    study = open_study(folder, experiment, sweep)
    units = _wanted(request, experiment, study)
    lacking = to_measure(compared(study))
    if units or lacking or not _has_report(study) or (study.sweep and not study.sweep.complete):
        with interruption.nothing_to_save():
            datasets = load_datasets(*to_check(study, units))
        with claim(folder):
            # Another process may have trained in it until now.
            study = open_study(folder, experiment, sweep)
            units = [unit for unit in unfinished(study) if unit in units]
            study = _train(study, units, request, datasets, console, interruption)
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


def _train(
    study: Study,
    units: list[Unit],
    request: Request,
    datasets: dict[DataConfig, Dataset],
    console: Console,
    interruption: Interruption,
) -> Study:
    """Trains the units, of a screening only the `top` that it chooses, or goes on with a sweep; and writes the report.

    Returns the study with all trials of a sweep.
    """
    study = dataclasses.replace(study, machine=machine() if units else study.machine, reported=False)
    write_study(study)
    keep_compilations()
    if study.sweep and not study.sweep.complete:
        study = run_sweep(study, Means(datasets, request.sweep.storage, console, interruption))
        units = []
    for part in filter(None, _parts(study, units, request.top)):
        to_do = f"{len(part)} of {len(study.units)} runs to do in {study.folder}"
        console.print(to_do, highlight=False, soft_wrap=True)
        study = run_study(study, part, datasets, console, interruption)
    with interruption.nothing_to_save():
        try:
            measure_study(compared(study), datasets, console)
        finally:
            _write_report(study)
        write_study(dataclasses.replace(study, reported=True))
    return study


def _write_report(study: Study) -> None:
    # What draws takes most of a second to load, and not every mode draws.
    from cnnjax.study.report import write_report

    write_report(study)


def _report(request: Request, console: Console, interruption: Interruption) -> int:
    with interruption.nothing_to_save():
        study = read_study(_workdir(request))
        results = collect(study)
        require_finished(study, results)
        _write_report(study)
        print_summary(study, results, console)
    return SOME_FAILED if troubles(study) else OK


def _measure(request: Request, console: Console, interruption: Interruption) -> int:
    """Measures the finished runs of a study, by its own config but for what the flags say of `measures`."""
    with interruption.nothing_to_save():
        folder = _workdir(request)
        study = _with_measures(read_study(folder), request.changes)
        require_finished(study, collect(study))
        with claim(folder):
            measure_study(compared(study), {}, console)
            write_study(dataclasses.replace(study, reported=False))
            _write_report(study)
            write_study(dataclasses.replace(study, reported=True))
        print_summary(study, collect(study), console)
    return SOME_FAILED if troubles(study) else OK


def _with_measures(study: Study, changes: Mapping[str, str]) -> Study:
    """The study with the fields of `measures` changed in every arm."""
    for path in changes:
        if not path.startswith("measures."):
            raise RequestError(f"--config.{path}: --mode=measure changes nothing but --config.measures")
    arms = {arm: override(config, changes) for arm, config in study.experiment.arms.items()}
    if not any(config.measures.names for config in arms.values()):
        raise RequestError(f"--config.measures.names: none given; there are: {', '.join(MEASURES)}")
    return dataclasses.replace(study, experiment=dataclasses.replace(study.experiment, arms=arms))


def _describe(request: Request, console: Console, interruption: Interruption) -> int:
    """One table for each different network among the arms."""
    with interruption.nothing_to_save():
        summaries: dict[DataConfig, DataSummary] = {}
        described: list[Config] = []
        for arm, config in _experiment(request).arms.items():
            if config.data not in summaries:
                summaries[config.data] = _summary_of(request, config.data)
            summary = summaries[config.data]
            if config.filters != Config().filters:
                checked_blueprint(config, summary)
            if any(other.model == config.model and other.data == config.data for other in described):
                continue
            described.append(config)
            frame = describe(build_model(config.model, summary), summary.shape)
            table = Table(title=f"{arm}: {config.model.name} on {summary.name} {summary.shape}")
            for column in frame.columns:
                table.add_column(column.replace("_", " "), justify="left" if column == "stage" else "right")
            for row in frame.itertuples(index=False):
                table.add_row(*(_cell(value) for value in row))
            console.print(table)
    return OK


def _summary_of(request: Request, data: DataConfig) -> DataSummary:
    """Of the data set; or of images of the shape that is asked for, of which nothing else is known."""
    if request.shape is None:
        return load_dataset(data).summary
    try:
        shape = tuple(map(int, request.shape))
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError
    except ValueError:
        given = ",".join(request.shape)
        raise RequestError(f"--shape: give the sizes and the channels of an image, as 224,224,3; not {given}") from None
    return DataSummary("images", shape, request.classes, (0.0,) * shape[-1], (1.0,) * shape[-1], 0.0, 255.0, {})


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


MODES: dict[str, Callable[[Request, Console, Interruption], int]] = {
    "run": _run,
    "describe": _describe,
    "measure": _measure,
    "report": _report,
}
