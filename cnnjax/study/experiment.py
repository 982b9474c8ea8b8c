"""Reading an experiment's file: a config and the arms that are compared."""

import dataclasses
import inspect
import itertools
import re
import runpy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from cnnjax.config import (
    Config,
    RequestError,
    StudyConfig,
    check_path,
    explain,
    flatten,
    nearest,
    override,
    to_dict,
)
from cnnjax.study.arms import order_arms


@dataclasses.dataclass(frozen=True)
class Lines:
    """Arms that differ in a number, to be drawn as lines over it.

    Attributes:
      field: the number's path in the config, such as `model.width`.
      arms: the arms of each line by its name.
    """

    field: str
    arms: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Column:
    """What a measure found, as a column of the table of what was measured.

    Attributes:
      metric: such as `rotation/accuracy`; see `cnnjax.analysis.measures`.
      stage: where the metric has stages.
      magnitude: where it has magnitudes; what was found at others is not shown in its place.
    """

    metric: str
    stage: str | None = None
    magnitude: float | None = None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A question as a study asks it.

    Attributes:
      name: of the file, without its ending.
      question: the first paragraph of the file's docstring.
      arms: each arm's config by name, in order.
      screening: of each architecture, the arm with random filters and the arm that is trained, where the one is to
        foretell the other; see `cnnjax.study.screening`.
      lines: arms to be drawn over a number that they differ in; None for none.
      columns: of the table of what was measured, by heading; one that ends in `(%)` shows shares in percent.
    """

    name: str
    question: str
    arms: dict[str, Config]
    screening: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    lines: Lines | None = None
    columns: dict[str, Column] = dataclasses.field(default_factory=dict)

    @property
    def study(self) -> StudyConfig:
        """What is compared with what: the same for all arms."""
        return next(iter(self.arms.values())).study

    @property
    def baseline(self) -> str | None:
        """The arm that the others are compared with: the config's, else the first; None if it is not among them."""
        wanted = self.study.baseline or next(iter(self.arms))
        return wanted if wanted in self.arms else None


def read_experiment(path: str, changes: Mapping[str, Any], arms: list[str] | None) -> Experiment:
    """The experiment in a file that defines `get_config()`, `arms()` unless there is but one, and perhaps
    `screening()`, `lines()` or `columns()`.

    Args:
      path: a Python file. `get_config()` returns a `Config`; `arms()`, or `arms(config)` of that config with the
        flags' changes, returns, by name, the fields that each arm changes (`{"model.width": 32}`), or a whole section
        (`{"model": ModelConfig("logistic")}`), which no flag then reaches. What the other functions return is
        described in `Experiment`.
      changes: from the flags; they win over the file, but not over what makes an arm that arm.
      arms: the names of those wanted; None for all. Those that they take filters from come along.

    Raises:
      RequestError: for a file that is not there or does not run, an unknown arm, or a wrong field.
    """
    file = Path(path)
    if not file.is_file():
        known = [str(other) for other in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise RequestError(f"--config: there is no file {path}" + (f"; {nearest(path, known)}" if known else ""))
    names = _run_file(path, file)
    config = _call(path, names, "get_config")
    if not isinstance(config, Config):
        raise RequestError(
            f"--config: get_config() of {path} returned {type(config).__name__}; it must return a Config"
        )
    changed = override(config, changes)
    definitions: Mapping[str, Mapping[str, Any]] = {"only": {}}
    if "arms" in names:
        # An arm of another network has nothing of the config's but what it takes from there itself.
        reads_config = callable(names["arms"]) and inspect.signature(names["arms"]).parameters
        given = [changed] if reads_config else []
        definitions = _call(path, names, "arms", *given)
    if not isinstance(definitions, Mapping) or not definitions:
        raise RequestError(f"--config: arms() of {path} must return a dict of at least one arm")
    for name, fields in definitions.items():
        if not isinstance(fields, Mapping) or not all(isinstance(field, str) for field in fields):
            raise RequestError(f"--config: {path}: the arm {name!r} must be a dict of fields by name; given {fields!r}")
        if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]+", name) or name.startswith("."):
            raise RequestError(f"--config: {path}: the arm {name!r} cannot be the name of a folder")
    if arms is not None and not arms:
        raise RequestError(f"--arms: none given; there are: {', '.join(definitions)}")
    for name in arms or []:
        if name not in definitions:
            raise RequestError(f"--arms: unknown arm {name!r}; {nearest(name, definitions)}")
    every = {name: override(changed, fields) for name, fields in definitions.items()}
    chosen = order_arms(every, [name for name in every if arms is None or name in arms])
    if changed.study.baseline and changed.study.baseline not in definitions:
        wrong = changed.study.baseline
        raise RequestError(f"config.study.baseline: unknown arm {wrong!r}; {nearest(wrong, definitions)}")
    question = (names.get("__doc__") or file.stem).strip().split("\n\n")[0].replace("\n", " ")
    return Experiment(
        file.stem,
        question,
        chosen,
        _screening(path, names, definitions),
        _lines(path, names, every),
        _columns(path, names),
    )


def _screening(path: str, names: Mapping[str, Any], arms: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    found = _call(path, names, "screening") if "screening" in names else {}
    if not isinstance(found, Mapping):
        raise RequestError(f"--config: {path}: screening() must return a dict of pairs of arms; given {found!r}")
    for name, pair in found.items():
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(arm in arms for arm in pair)):
            raise RequestError(
                f"--config: {path}: screening() must give for {name!r} its random and its trained arm; given {pair!r}"
            )
    return dict(found)


def _lines(path: str, names: Mapping[str, Any], arms: Mapping[str, Config]) -> Lines | None:
    lines = _call(path, names, "lines") if "lines" in names else None
    if lines is None:
        return None
    if not (isinstance(lines, Lines) and all(isinstance(line, tuple) for line in lines.arms.values())):
        raise RequestError(f"--config: {path}: lines() must return a Lines of tuples of arms; given {lines!r}")
    check_path(lines.field)
    for arm in itertools.chain(*lines.arms.values()):
        if arm not in arms:
            raise RequestError(f"--config: {path}: lines(): unknown arm {arm!r}; {nearest(arm, arms)}")
        value = flatten(to_dict(arms[arm])).get(lines.field)
        if not isinstance(value, int | float):
            raise RequestError(f"--config: {path}: lines() needs a number in {lines.field} of {arm!r}; given {value!r}")
    return lines


def _columns(path: str, names: Mapping[str, Any]) -> dict[str, Column]:
    columns = _call(path, names, "columns") if "columns" in names else {}
    if not (isinstance(columns, Mapping) and all(isinstance(column, Column) for column in columns.values())):
        raise RequestError(f"--config: {path}: columns() must return a dict of Column by heading; given {columns!r}")
    return dict(columns)


def _run_file(path: str, file: Path) -> dict[str, Any]:
    try:
        names = runpy.run_path(path)
    except Exception as error:
        raise _explained(path, file, error) from None
    if "get_config" not in names:
        raise RequestError(f"--config: {path} defines no get_config()")
    return names


def _call(path: str, names: Mapping[str, Any], function: str, *arguments: Config) -> Any:
    try:
        return names[function](*arguments)
    except Exception as error:
        raise _explained(path, Path(path), error) from None


def _explained(path: str, file: Path, error: Exception) -> RequestError:
    """What is wrong in an experiment's file, and at which of its lines."""
    if isinstance(error, pydantic.ValidationError):
        return RequestError(f"--config: {path}: {explain(error)}")
    if isinstance(error, SyntaxError):
        line, reason = error.lineno, error.msg
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
        line, reason = (frames[-1].lineno if frames else 1), str(error)
    return RequestError(f"--config: {path} does not run: line {line}: {type(error).__name__}: {reason}")
