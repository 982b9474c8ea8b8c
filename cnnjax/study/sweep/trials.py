"""A sweep as a study keeps it: what was asked for, and the trials that came of it, each an arm of the study."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnjax.config import Config, RequestError, from_dict, override, to_dict
from cnnjax.study.arms import needed_arms
from cnnjax.study.sweep import search
from cnnjax.study.sweep.search import Point
from cnnjax.study.sweep.spec import Choices, Dimension, Value, parse_sweep, text_of

SEED = 0
"""Of all that a search draws."""

# Longer values, and those that cannot be part of a folder's name, are named by their place in the list.
_LONGEST = 24
_PLAIN = re.compile(r"[\w.+\-]+")


@dataclasses.dataclass(frozen=True)
class Trial:
    """A point that is tried.

    Attributes:
      arm: of the experiment.
      point: the value of each swept field.
    """

    arm: str
    point: Point


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is swept, and how.

    Attributes:
      specs: what is varied, as `--sweep` says it.
      search: a key of `SEARCHES`.
      count: how many trials of each arm; None for all of a grid.
      bases: the experiment's arms, of which the swept ones are no arms of the study: their trials are.
      owner: who asks for trials, where other launchers ask the same storage (`--storage`); empty where none do.
      trials: by the names of the arms that they are, in the order in which they were thought of.
      complete: whether nothing is left to be run.
    """

    specs: tuple[str, ...]
    search: str
    count: int | None
    bases: dict[str, Config]
    owner: str = ""
    trials: dict[str, Trial] = dataclasses.field(default_factory=dict)
    complete: bool = False

    @property
    def flags(self) -> str:
        """As the command line says it."""
        swept = [f"--sweep={spec}" for spec in self.specs]
        trials = [f"--trials={self.count}"] if self.count else []
        return " ".join([*swept, f"--search={self.search}", *trials, *["--storage=URL"] * bool(self.owner)])

    @functools.cached_property
    def dimensions(self) -> dict[str, tuple[Dimension, ...]]:
        """What is varied, by swept arm."""
        return parse_sweep(self.specs, self.bases)

    @property
    def arms(self) -> dict[str, Config]:
        """The study's arms: in the place of each swept one its trials; where none is known yet, the experiment's."""
        trials = {name: override(self.bases[trial.arm], trial.point) for name, trial in self.trials.items()}
        alone = {arm: config for arm, config in self.bases.items() if arm not in self.dimensions}
        return {**alone, **trials} or self.bases

    def of_arm(self, arm: str) -> list[str]:
        """The names of an arm's trials."""
        return [name for name, trial in self.trials.items() if trial.arm == arm]

    def with_trials(self, arm: str, points: Sequence[Point]) -> "Sweep":
        """The sweep with more trials of an arm."""
        more = {trial_name(arm, self.dimensions[arm], point): Trial(arm, point) for point in points}
        return dataclasses.replace(self, trials=self.trials | more)


def _draw_or_list(dimensions: Sequence[Dimension], count: int | None) -> list[Point]:
    return search.grid(dimensions) if count is None else search.random(dimensions, count, SEED)


SEARCHES: dict[str, Callable[[Sequence[Dimension], int | None], list[Point]]] = {
    "grid": lambda dimensions, count: search.grid(dimensions),
    "random": lambda dimensions, count: search.random(dimensions, count or 0, SEED),
    "sobol": lambda dimensions, count: search.sobol(dimensions, count or 0, SEED),
    "halving": _draw_or_list,
    "tpe": lambda dimensions, count: [],
}
"""By name, the points of an arm that are known before anything is run, of its dimensions and the number of trials."""


def plan_sweep(sweep: Sweep) -> Sweep:
    """The sweep with the trials that are known before anything is run.

    Raises:
      RequestError: for a wrong spec, one that the search cannot make trials of, or a swept arm that another one takes
        filters from.
    """
    dimensions = sweep.dimensions
    for arm in dimensions:
        try:
            sweep = sweep.with_trials(arm, SEARCHES[sweep.search](dimensions[arm], sweep.count))
        except ValueError as error:
            raise RequestError(f"--sweep: {error}, or how many --trials are drawn at random") from None
    for name, config in {**sweep.bases, **sweep.arms}.items():
        for needed in set(needed_arms(config.filters)) & dimensions.keys():
            raise RequestError(
                f"--sweep: {name} takes filters from {needed}, which is swept; sweep the other arms alone, by "
                "ARM/FIELD=VALUES"
            )
    return sweep


def go_on(before: Sweep | None, asked: Sweep | None, where: str) -> Sweep | None:
    """The sweep of a folder, if it is the one that is asked for; of the configs of the arms nothing is said here.

    Args:
      before: what the folder holds.
      asked: by the flags.
      where: the folder.

    Raises:
      RequestError: if it is another one.
    """
    if before is None and asked is None:
        return None
    if before is None:
        raise RequestError(
            f"--workdir: {where} holds a study that is no sweep; leave out --sweep, or use another folder"
        )
    if asked is None:
        raise RequestError(
            f"--workdir: {where} holds a sweep; give its flags again ({before.flags}), or another folder"
        )
    now, then = ((it.dimensions, it.search, it.count, bool(it.owner)) for it in (asked, before))
    if now != then:
        raise RequestError(f"--workdir: {where} holds another sweep ({before.flags}); use another folder")
    return dataclasses.replace(asked, owner=before.owner, trials=before.trials, complete=before.complete)


def trial_name(arm: str, dimensions: Sequence[Dimension], point: Point) -> str:
    """What a trial is called: the arm and the value of each field, as in `learned,lr=0.01,width=16`."""
    lasts = [dimension.field.rpartition(".")[2] for dimension in dimensions]
    fields = [d.field if lasts.count(last) > 1 else last for d, last in zip(dimensions, lasts, strict=True)]
    words = [f"{name}={_word(d, point[d.field])}" for d, name in zip(dimensions, fields, strict=True)]
    return ",".join([arm, *words])


def _word(dimension: Dimension, value: Value) -> str:
    """A value as a part of a folder's name."""
    text = text_of(value)
    if len(text) <= _LONGEST and _PLAIN.fullmatch(text):
        return text
    values = dimension.values
    return f"#{values.values.index(text) + 1}" if isinstance(values, Choices) else text


def sweep_to_dict(sweep: Sweep) -> dict[str, Any]:
    """The sweep as plain JSON values."""
    return {
        "specs": list(sweep.specs),
        "search": sweep.search,
        "count": sweep.count,
        "bases": {arm: to_dict(config) for arm, config in sweep.bases.items()},
        "trials": {name: dataclasses.asdict(trial) for name, trial in sweep.trials.items()},
        "owner": sweep.owner,
        "complete": sweep.complete,
    }


def sweep_from_dict(values: Mapping[str, Any]) -> Sweep:
    """The sweep that `sweep_to_dict` wrote."""
    return Sweep(
        specs=tuple(values["specs"]),
        search=values["search"],
        count=values["count"],
        bases={arm: from_dict(config) for arm, config in values["bases"].items()},
        trials={name: Trial(**trial) for name, trial in values["trials"].items()},
        owner=values["owner"],
        complete=bool(values["complete"]),
    )
