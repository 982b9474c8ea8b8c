"""Points by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011): good values are tried near good ones.

Optuna keeps the trials in a storage, which many launchers may share. What is asked next is decided by the trials in it
alone, so that a sweep that was stopped asks as one that was not. Launchers that share a storage give signs of life
while they train: the trials of one that has stopped giving them are given up by the others.
"""

import contextlib
import hashlib
import json
import logging
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from cnnjax.config import Config, RequestError, to_dict
from cnnjax.study.sweep.search import Point
from cnnjax.study.sweep.spec import Choices, Dimension
from cnnjax.study.sweep.trials import SEED

# What launchers write beside a trial: who they are, and where its runs lie.
_OWNER, _FOLDER = "owner", "workdir"
# Seconds between two signs of life, and without one until a launcher is taken to be lost.
_BEAT, _GRACE = 60, 600

log = logging.getLogger(__name__)


def import_optuna() -> ModuleType:
    """Optuna, told to be quiet.

    Raises:
      RequestError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise RequestError("--search=tpe: Optuna is not installed; pip install 'cnnjax[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(url: str, *, shared: bool) -> Any:
    """Optuna's storage at a URL, such as `sqlite:////home/me/trials.db` or `postgresql://host/trials`.

    Args:
      url: of a database; a file is made where there is none.
      shared: whether other launchers may use it.

    Raises:
      RequestError: if it cannot be opened.
    """
    optuna = import_optuna()
    interval, grace = (_BEAT, _GRACE) if shared else (None, None)
    try:
        with _quiet():
            return optuna.storages.RDBStorage(url, heartbeat_interval=interval, grace_period=grace)
    except Exception as error:  # each database has its own
        reason = str(error).splitlines()[0]
        raise RequestError(f"--storage={url}: Optuna cannot open it ({type(error).__name__}: {reason})") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Signs of life are called an experiment, and so is, in older versions, telling trials in progress apart."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", import_optuna().exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
        yield


def name_in_storage(experiment: str, arm: str, configs: Mapping[str, Config], seeds: int, flags: str) -> str:
    """What an arm's trials are called in a storage: the same where they would score the same.

    Args:
      experiment: its name.
      arm: that is swept.
      configs: of the arm and of all that it takes filters from.
      seeds: how many.
      flags: of the sweep.
    """
    decide = [section for section in to_dict(configs[arm]) if section not in ("study", "measures")]
    chosen = {name: {section: to_dict(config)[section] for section in decide} for name, config in configs.items()}
    digest = hashlib.sha256(json.dumps([chosen, seeds, flags], sort_keys=True).encode()).hexdigest()
    return f"{experiment}/{arm} {digest[:16]}"


class Asker:
    """The trials of an arm in Optuna's storage.

    Args:
      storage: see `open_storage`.
      name: of the arm's trials in it.
      dimensions: what is varied.
      owner: who asks, where launchers share the storage; empty where it is this one's alone.
      folder: where the trials' runs lie, to be told to the others.
    """

    def __init__(self, storage: Any, name: str, dimensions: Sequence[Dimension], owner: str, folder: str) -> None:
        self._optuna = import_optuna()
        self._study = self._optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        self._dimensions, self._owner, self._folder = dimensions, owner, folder
        self._heart = storage if owner and isinstance(storage, self._optuna.storages.RDBStorage) else None
        for trial in self._own_running():
            if len(trial.params) < len(dimensions):  # it was being asked for when the launcher was killed
                self.tell(trial.number, None)

    def ask(self, count: int, total: int) -> None:
        """Adds so many trials, but no more than make `total` with those of all launchers."""
        for _ in range(count):
            if len(self._study.get_trials(deepcopy=False)) >= total:
                return
            with _quiet():
                trial = self._study.ask()
                self._study.sampler = self._optuna.samplers.TPESampler(seed=SEED + trial.number, constant_liar=True)
            if trial.number >= total:  # others have asked meanwhile
                self.tell(trial.number, None)
                return
            self._record(trial)
            trial.set_user_attr(_OWNER, self._owner)
            trial.set_user_attr(_FOLDER, self._folder)
            for dimension in self._dimensions:
                _suggest(trial, dimension)

    def asked(self) -> dict[int, Point]:
        """This launcher's trials of which nothing was told yet, by number."""
        return {trial.number: self._point(trial.params) for trial in self._own_running()}

    def tell(self, number: int, score: float | None) -> None:
        """What a trial scored; None if it failed. One that others have given up stays failed."""
        state = None if score is not None else self._optuna.trial.TrialState.FAIL
        self._study.tell(number, score, state=state, skip_if_finished=True)

    def beat(self) -> None:
        """Gives a sign of life, where others share the storage."""
        for trial in self._own_running():
            self._record(trial)

    def _record(self, trial: Any) -> None:
        if self._heart:
            self._heart.record_heartbeat(trial._trial_id)

    def others(self) -> str:
        """Why none of this launcher's trials is the best of all, a clause; empty if one is, or none has finished.

        Trials of launchers that are lost are given up.
        """
        if self._heart:
            with _quiet():
                self._optuna.storages.fail_stale_trials(self._study)
        if running := self._running():
            return f"other launchers are training {len(running)} trials; run this again when they are done"
        try:
            best = self._study.best_trial
        except ValueError:
            return ""
        return (
            "" if self._is_own(best) else f"the best trial is in {best.user_attrs[_FOLDER]}, which reads the test split"
        )

    def _running(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))

    def _own_running(self) -> list[Any]:
        return [trial for trial in self._running() if self._is_own(trial)]

    def _is_own(self, trial: Any) -> bool:
        return not self._owner or trial.user_attrs.get(_OWNER) == self._owner

    def _point(self, params: Mapping[str, Any]) -> Point:
        return {
            dimension.field: params[dimension.field]
            if isinstance(dimension.values, Choices)
            else dimension.values.rounded(params[dimension.field])
            for dimension in self._dimensions
        }


@contextlib.contextmanager
def kept_alive(askers: Collection[Asker], interval: float = _BEAT) -> Iterator[None]:
    """Within this, signs of life are given every so many seconds."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(interval):
            for asker in askers:
                try:
                    asker.beat()
                except Exception as error:  # each database has its own
                    log.debug("no sign of life could be given: %s", error)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _suggest(trial: Any, dimension: Dimension) -> None:
    field, values = dimension.field, dimension.values
    if isinstance(values, Choices):
        trial.suggest_categorical(field, values.values)
    elif values.whole:
        trial.suggest_int(field, int(values.low), int(values.high), log=values.scale == "log")
    else:
        trial.suggest_float(field, values.low, values.high, log=values.scale == "log")
