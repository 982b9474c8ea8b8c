"""Runs all units of a study that have not finished, alone or together, one pack after another."""

import dataclasses
import functools
import logging
import traceback
from collections.abc import Mapping, Sequence

from rich.console import Console

from cnnjax.config import Config, DataConfig, RequestError
from cnnjax.data.dataset import DataSummary
from cnnjax.data.streamed import AnyDataset, open_dataset
from cnnjax.study.arms import order_arms
from cnnjax.study.feature_files import FileStore
from cnnjax.study.files import DiskFull, is_disk_full, write_json
from cnnjax.study.measured_once import measured_once
from cnnjax.study.measuring import check_measures
from cnnjax.study.packs import Pack, choose_packs
from cnnjax.study.profiling import Profile
from cnnjax.study.progress import StudyProgress
from cnnjax.study.run import WHOLE, Extent, Work, run_pack
from cnnjax.study.sources import foresee_sources
from cnnjax.study.workdir import Study, Unit, read_status, write_study
from cnnjax.train.beginning import Shared
from cnnjax.train.forward import Precision
from cnnjax.train.hosts import require_all
from cnnjax.train.interruption import Interruption
from cnnjax.train.setup import check_request, make_blueprint, what_is_trained
from cnnjax.train.speed import measure_peak

log = logging.getLogger(__name__)

# A run that diverged would diverge again: it is a function of its config and seed.
_ENDED = ("finished", "diverged")


def load_datasets(
    study: Study, units: Sequence[Unit], known: Mapping[DataConfig, AnyDataset] | None = None
) -> dict[DataConfig, AnyDataset]:
    """The data of the runs to do, and the check of each arm's config against it, before anything is written.

    Args:
      study: whose units they are.
      units: to be run.
      known: what is loaded already; the result has these too.

    Raises:
      RequestError: for data that is not there, or a config that cannot be run on it.
    """
    datasets = dict(known or {})
    checked: dict[str, tuple[Config, DataSummary]] = {}
    arms = study.experiment.arms
    for arm in order_arms(arms, list(dict.fromkeys(unit.arm for unit in units))):
        config = arms[arm]
        if config.data not in datasets:
            datasets[config.data] = open_dataset(config.data)
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
    datasets: Mapping[DataConfig, AnyDataset],
    console: Console,
    interruption: Interruption,
    extent: Extent = WHOLE,
    features: FileStore | None = None,
    profile: Profile | None = None,
) -> Study:
    """Runs the units. One that fails or diverges is marked so in its status, and the others go on.

    Args:
      study: whose units they are.
      units: to be run.
      datasets: by the configs' data.
      console: where it is shown how far they are.
      interruption: looked at between two pieces of work.
      extent: how far.
      features: of frozen prefixes, kept for the runs of another call; by default they are kept for these units alone.
      profile: of the devices, while the first run trains; None for none.

    Returns:
      The study, with what was decided of runs of their shapes.

    Raises:
      DiskFull: when there is no room to write to; runs that are done stay done.
      Stopped: after a signal.
    """
    arms = study.experiment.arms
    with interruption.nothing_to_save():
        packs, choices = choose_packs(units, arms, datasets, study.packs, interruption)
        if choices != study.packs:
            study = dataclasses.replace(study, packs=choices)
            write_study(study)
        peaks = known_peaks({arms[unit.arm].train.precision for unit in units})
    kept = features or FileStore(study.folder)
    shared = Shared(features=kept)
    seed_after_seed = all(pack.form is None for pack in packs)
    with StudyProgress(console, units, later=extent.later) as progress:
        for before, pack in zip([None, *packs], packs, strict=False):
            interruption.check()
            if before and before.units[0].seed != pack.units[0].seed and seed_after_seed and features is None:
                kept.forget_unused()
            announce(pack, arms, datasets)
            running = progress.begin(*pack.units)
            work = Work(arms, datasets, shared, study.folder, running, interruption, extent, peaks, profile)
            outcomes = outcomes_of(pack, work)
            running.end(*(outcomes[unit] for unit in pack.units))
    if features is None:
        kept.clear()
    return study


def known_peaks(precisions: set[Precision]) -> dict[str, float]:
    """What the devices can, measured once; nothing where that fails, for no run shall fail for it."""
    peaks: dict[str, float] = {}
    for precision in precisions:
        try:
            peaks[precision] = measured_once(f"peak_{precision}", float, functools.partial(measure_peak, precision))
        except RuntimeError as error:
            log.debug("the devices' peak in %s could not be measured: %s", precision, error)
    return peaks


def announce(pack: Pack, arms: Mapping[str, Config], datasets: Mapping[DataConfig, AnyDataset]) -> None:
    """Logs what is trained, before the first run of an arm begins."""
    for unit in pack.units:
        if unit.seed == 0 and not read_status(unit):
            config = arms[unit.arm]
            blueprint = make_blueprint(config, datasets[config.data].summary)
            log.info("%s: %s", unit.arm, what_is_trained(blueprint, config.filters))


def outcomes_of(pack: Pack, work: Work) -> dict[Unit, str]:
    """What became of each run. Where runs fail together, each is tried alone: it may be the fault of one."""
    try:
        return run_pack(pack, work)
    except Exception as error:
        require_all()
        if is_disk_full(error):
            folder = pack.units[0].folder
            raise DiskFull(f"the disk is full: {folder} cannot be written; free some room and run again") from error
        log.debug("%s", traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if pack.form is not None:
            log.warning("training %d together failed (%s); each is run alone", len(pack.units), reason)
            return {unit: outcomes_of(Pack((unit,)), work)[unit] for unit in pack.units}
        where = traceback.extract_tb(error.__traceback__)[-1]
        failed = {"state": "failed", "error": reason, "where": f"{where.filename}:{where.lineno}"}
        write_json(pack.units[0].folder / "status.json", failed)
        return {pack.units[0]: f"failed ({reason})"}
