"""What a worker of a Ray cluster does: it checks a study's request, chooses its packs, or trains one of them."""

import contextlib
import dataclasses
import functools
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from etils import epath
from rich.console import Console

from cnnjax.config import Config, DataConfig
from cnnjax.data.streamed import AnyDataset, open_dataset
from cnnjax.study.feature_files import FileStore
from cnnjax.study.packs import Pack, choose_packs
from cnnjax.study.progress import StudyProgress
from cnnjax.study.run import Extent, Work
from cnnjax.study.runner import known_peaks, outcomes_of
from cnnjax.study.workdir import Choice, Unit, machine
from cnnjax.train.beginning import Shared
from cnnjax.train.compilation_cache import keep_compilations
from cnnjax.train.interruption import Interruption, Stopped
from cnnjax.train.setup import check_devices

_open = functools.cache(open_dataset)


@dataclasses.dataclass(frozen=True)
class Order:
    """What a worker needs to know.

    Attributes:
      arms: the configs of the runs, and of the arms that they take filters from.
      folder: of the study, which all nodes see.
      directory: the driver's working directory, from which relative paths lead.
    """

    arms: Mapping[str, Config]
    folder: str
    directory: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """What is decided before the first run, on a node like those that will train.

    Attributes:
      packs: in which the runs are trained.
      choices: all that were made, see `cnnjax.study.packs.choose_packs`.
      machine: what it runs on.
    """

    packs: list[Pack]
    choices: Mapping[str, Choice]
    machine: Mapping[str, Any]


def check(order: Order) -> None:
    """Raises `RequestError` where a node like those that will train lacks data, or its devices cannot train on them."""
    with _at_work(order):
        datasets = _datasets(order)
        for config in order.arms.values():
            check_devices(config, datasets[config.data].summary)


def survey(order: Order, units: list[Unit], before: Mapping[str, Choice]) -> Survey | None:
    """Chooses the packs by what these devices gain; None if it was cancelled."""
    with _at_work(order) as interruption:
        datasets = _datasets(order)
        packs, choices = choose_packs(units, order.arms, datasets, before, interruption)
        return Survey(packs, choices, machine())
    return None


def train(order: Order, pack: Pack, extent: Extent) -> dict[Unit, str] | None:
    """Trains runs from where they were, and writes all of theirs but what the study keeps.

    Returns:
      What became of each; None if it was cancelled, with the states saved.
    """
    with _at_work(order) as interruption:
        progress = StudyProgress(Console(quiet=True), list(pack.units)).begin(*pack.units)
        peaks = known_peaks({order.arms[unit.arm].train.precision for unit in pack.units})
        folder = epath.Path(order.folder)
        shared = _shared(order.folder, pack.units[0].seed)
        work = Work(order.arms, _datasets(order), shared, folder, progress, interruption, extent, peaks)
        return outcomes_of(pack, work)
    return None


def _datasets(order: Order) -> dict[DataConfig, AnyDataset]:
    return {data: _open(data) for data in {config.data for config in order.arms.values()}}


@functools.lru_cache(maxsize=1)
def _shared(folder: str, seed: int) -> Shared:
    """What one worker's runs of a study and a seed share. Workers share nothing: each has its own files of features."""
    return Shared(features=FileStore())


@contextlib.contextmanager
def _at_work(order: Order) -> Iterator[Interruption]:
    """Ray cancels a task by what Ctrl-C does; the runs look at it between two pieces of work, save, and stop."""
    interruption = Interruption()

    def cancelled(number: int, frame: FrameType | None) -> None:
        interruption.signal = number

    logging.getLogger("cnnjax").setLevel(logging.ERROR)
    if Path(order.directory).is_dir():
        os.chdir(order.directory)
    keep_compilations()
    before = signal.signal(signal.SIGINT, cancelled)
    try:
        with contextlib.suppress(Stopped):
            yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
