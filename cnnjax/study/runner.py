"""Runs all units of a study that have not finished, one after another."""

import logging
import traceback

from etils import epath
from rich.console import Console

from cnnjax.config import Config, DataConfig, RequestError
from cnnjax.data.dataset import Dataset, DataSummary, load_dataset
from cnnjax.study.arms import order_arms
from cnnjax.study.feature_files import FileStore
from cnnjax.study.files import DiskFull, is_disk_full, write_json
from cnnjax.study.measuring import check_measures
from cnnjax.study.progress import StudyProgress
from cnnjax.study.run import run_unit
from cnnjax.study.sources import foresee_sources
from cnnjax.study.workdir import Study, Unit, read_status
from cnnjax.train.assembly import Shared
from cnnjax.train.interruption import Interruption
from cnnjax.train.loop import Diverged
from cnnjax.train.setup import check_request

log = logging.getLogger(__name__)

# A run that diverged would diverge again: it is a function of its config and seed.
_ENDED = ("finished", "diverged")


def load_datasets(study: Study, units: list[Unit]) -> dict[DataConfig, Dataset]:
    """The data of the runs to do, and the check of each arm's config against it, before anything is written.

    Raises:
      RequestError: for data that is not there, or a config that cannot be run on it.
    """
    datasets: dict[DataConfig, Dataset] = {}
    checked: dict[str, tuple[Config, DataSummary]] = {}
    arms = study.experiment.arms
    for arm in order_arms(arms, list(dict.fromkeys(unit.arm for unit in units))):
        config = arms[arm]
        if config.data not in datasets:
            datasets[config.data] = load_dataset(config.data)
        summary = datasets[config.data].summary
        try:
            saved = foresee_sources(config, study.seeds, study.folder, checked)
        except RequestError as error:
            raise RequestError(f"config.filters: {error}") from None
        check_request(config, summary, saved)
        check_measures(config.measures, summary)
        checked[arm] = (config, summary)
    return datasets


def unfinished(study: Study) -> list[Unit]:
    """The runs that are still to do."""
    return [unit for unit in study.units if read_status(unit).get("state") not in _ENDED]


def run_study(
    study: Study,
    units: list[Unit],
    datasets: dict[DataConfig, Dataset],
    console: Console,
    interruption: Interruption,
) -> None:
    """Runs the units. One that fails or diverges is marked so in its status, and the others go on.

    Raises:
      DiskFull: when there is no room to write to; runs that are done stay done.
      Stopped: after a signal.
    """
    features = FileStore(study.folder)
    shared = Shared(features=features)
    with StudyProgress(console, units) as progress:
        for unit in units:
            interruption.check()
            config = study.experiment.arms[unit.arm]
            progress.begin(unit)
            progress.end(_outcome(unit, config, datasets[config.data], shared, study.folder, progress, interruption))
    features.clear()


def _outcome(
    unit: Unit,
    config: Config,
    dataset: Dataset,
    shared: Shared,
    folder: epath.Path,
    progress: StudyProgress,
    interruption: Interruption,
) -> str:
    try:
        run_unit(unit, config, dataset, shared, folder, progress, interruption)
    except Diverged as error:
        write_json(unit.folder / "status.json", {"state": "diverged", "error": str(error)})
        return "diverged"
    except Exception as error:
        if is_disk_full(error):
            raise DiskFull(
                f"the disk is full: {unit.folder} cannot be written; free some room and run again"
            ) from error
        log.debug("%s", traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        where = traceback.extract_tb(error.__traceback__)[-1]
        failed = {"state": "failed", "error": reason, "where": f"{where.filename}:{where.lineno}"}
        write_json(unit.folder / "status.json", failed)
        return f"failed ({reason})"
    return "finished"
