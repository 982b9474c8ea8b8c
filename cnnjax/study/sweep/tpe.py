"""Points by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011): good values are tried near good ones.

Optuna keeps the trials in a storage, which many launchers may share. What is asked next is decided by the trials in it
alone, so that a sweep that was stopped asks as one that was not.
"""

import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from cnnjax.config import RequestError
from cnnjax.study.sweep.search import Point
from cnnjax.study.sweep.spec import Choices, Dimension
from cnnjax.study.sweep.trials import SEED

# What launchers write beside a trial: who they are, and where its runs lie.
_OWNER, _FOLDER = "owner", "workdir"


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


def open_storage(url: str) -> Any:
    """Optuna's storage at a URL, such as `sqlite:////home/me/trials.db` or `postgresql://host/trials`.

    Raises:
      RequestError: if it cannot be opened.
    """
    optuna = import_optuna()
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # each database has its own
        reason = str(error).splitlines()[0]
        raise RequestError(f"--storage={url}: Optuna cannot open it ({type(error).__name__}: {reason})") from None


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
        for trial in self._own_running():
            if len(trial.params) < len(dimensions):  # it was being asked for when the launcher was killed
                self.tell(trial.number, None)

    def ask(self, count: int, total: int) -> None:
        """Adds so many trials, but no more than make `total` with those of all launchers."""
        for _ in range(count):
            number = len(self._study.get_trials(deepcopy=False))
            if number >= total:
                return
            with warnings.catch_warnings():
                # Of older versions, in which it is called an experiment to tell trials in progress apart.
                warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
                self._study.sampler = self._optuna.samplers.TPESampler(seed=SEED + number, constant_liar=True)
            trial = self._study.ask()
            trial.set_user_attr(_OWNER, self._owner)
            trial.set_user_attr(_FOLDER, self._folder)
            for dimension in self._dimensions:
                _suggest(trial, dimension)

    def asked(self) -> dict[int, Point]:
        """This launcher's trials of which nothing was told yet, by number."""
        return {trial.number: self._point(trial.params) for trial in self._own_running()}

    def tell(self, number: int, score: float | None) -> None:
        """What a trial scored; None if it failed."""
        self._study.tell(number, score, state=None if score is not None else self._optuna.trial.TrialState.FAIL)

    def others(self) -> str:
        """Why none of this launcher's trials is the best of all, a clause; empty if one is, or none has finished."""
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


def _suggest(trial: Any, dimension: Dimension) -> None:
    field, values = dimension.field, dimension.values
    if isinstance(values, Choices):
        trial.suggest_categorical(field, values.values)
    elif values.whole:
        trial.suggest_int(field, int(values.low), int(values.high), log=values.scale == "log")
    else:
        trial.suggest_float(field, values.low, values.high, log=values.scale == "log")
