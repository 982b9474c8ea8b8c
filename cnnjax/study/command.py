"""What the command line can ask for, mode by mode."""

import dataclasses
import sys
from collections.abc import Callable, Mapping

from etils import epath
from rich.console import Console
from rich.table import Table

from cnnjax.config import Config, DataConfig, RequestError, choose
from cnnjax.data.dataset import Dataset, load_dataset
from cnnjax.models.description import describe
from cnnjax.study.experiment import Experiment, read_experiment
from cnnjax.study.report import print_summary, require_finished, write_report
from cnnjax.study.results import collect, troubles
from cnnjax.study.runner import DiskFull, is_disk_full, load_datasets, run_study, unfinished
from cnnjax.study.workdir import open_study, read_study, write_study
from cnnjax.train.interruption import Interruption
from cnnjax.train.setup import build_model

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
    """

    mode: str
    config: str
    workdir: str
    changes: Mapping[str, str]
    arms: list[str] | None
    seeds: int | None


def execute(request: Request, interruption: Interruption) -> int:
    """Does what is asked, and returns the exit status: `OK`, `SOME_FAILED` (or a full disk), `WRONG_REQUEST`."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        return choose(MODES, request.mode, "--mode")(request, console, interruption)
    except RequestError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return WRONG_REQUEST
    except DiskFull as error:
        print(error, file=sys.stderr)
        return SOME_FAILED
    except OSError as error:
        if is_disk_full(error):
            print(f"the disk is full: {error.filename or request.workdir} cannot be written", file=sys.stderr)
            return SOME_FAILED
        print(f"{error.filename or request.workdir}: {error.strerror or error}", file=sys.stderr)
        return WRONG_REQUEST


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
    study = open_study(_workdir(request), _experiment(request))
    units = unfinished(study)
    if units:
        with interruption.nothing_to_save():
            datasets = load_datasets(study)
        write_study(study)
        console.print(
            f"{len(units)} of {len(study.units)} runs to do in {study.folder}",
            highlight=False,
            soft_wrap=True,
        )
        run_study(study, units, datasets, console, interruption)
    with interruption.nothing_to_save():
        if units or not (study.folder / "report.html").exists():
            write_report(study)
        print_summary(study, collect(study), console)
    return SOME_FAILED if troubles(study) else OK


def _report(request: Request, console: Console, interruption: Interruption) -> int:
    with interruption.nothing_to_save():
        study = read_study(_workdir(request))
        results = collect(study)
        require_finished(study, results)
        write_report(study)
        print_summary(study, results, console)
    return SOME_FAILED if troubles(study) else OK


def _describe(request: Request, console: Console, interruption: Interruption) -> int:
    """One table for each different network among the arms."""
    with interruption.nothing_to_save():
        datasets: dict[DataConfig, Dataset] = {}
        described: list[Config] = []
        for arm, config in _experiment(request).arms.items():
            if any(other.model == config.model and other.data == config.data for other in described):
                continue
            described.append(config)
            if config.data not in datasets:
                datasets[config.data] = load_dataset(config.data)
            summary = datasets[config.data].summary
            frame = describe(build_model(config.model, summary), summary.shape)
            table = Table(title=f"{arm}: {config.model.name} on {summary.name} {summary.shape}")
            for column in frame.columns:
                table.add_column(column.replace("_", " "), justify="left" if column == "stage" else "right")
            for row in frame.itertuples(index=False):
                table.add_row(*(_cell(value) for value in row))
            console.print(table)
    return OK


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


MODES: dict[str, Callable[[Request, Console, Interruption], int]] = {
    "run": _run,
    "describe": _describe,
    "report": _report,
}
