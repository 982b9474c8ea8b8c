"""Reading an experiment's file: a config and the arms that are compared."""

import dataclasses
import runpy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from cnnjax.config import Config, RequestError, explain, nearest, override


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A question as a study asks it.

    Attributes:
      name: of the file, without its ending.
      question: the first paragraph of the file's docstring.
      arms: each arm's config by name, in order.
    """

    name: str
    question: str
    arms: dict[str, Config]

    @property
    def baseline(self) -> str | None:
        """The arm that the others are compared with: the config's, else the first; None if it is not among them."""
        first = next(iter(self.arms))
        wanted = self.arms[first].study.baseline or first
        return wanted if wanted in self.arms else None


def read_experiment(path: str, changes: Mapping[str, Any], arms: list[str] | None) -> Experiment:
    """The experiment in a file that defines `get_config()` and, unless there is but one arm, `arms()`.

    Args:
      path: a Python file. `get_config()` returns a `Config`; `arms()` returns, by name, the fields that each arm
        changes (`{"model.width": 32}`), or a whole section (`{"model": ModelConfig("logistic")}`), which no
        flag then reaches.
      changes: from the flags; they win over the file, but not over what makes an arm that arm.
      arms: the names of those wanted; None for all.

    Raises:
      RequestError: for a file that is not there or does not run, an unknown arm, or a wrong field.
    """
    file = Path(path)
    if not file.is_file():
        known = [str(other) for other in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise RequestError(f"--config: there is no file {path}" + (f"; {nearest(path, known)}" if known else ""))
    try:
        names = runpy.run_path(path)
        config = names["get_config"]()
        definitions = names["arms"]() if "arms" in names else {"only": {}}
    except pydantic.ValidationError as error:
        raise RequestError(f"--config: {path}: {explain(error)}") from None
    except KeyError as error:
        raise RequestError(f"--config: {path} defines no {error.args[0]}()") from None
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        raise RequestError(f"--config: {path} does not run: line {line}: {type(error).__name__}: {error}") from None
    if not isinstance(config, Config):
        raise RequestError(
            f"--config: get_config() of {path} returned {type(config).__name__}; it must return a Config"
        )
    for name in arms or []:
        if name not in definitions:
            raise RequestError(f"--arms: unknown arm {name!r}; {nearest(name, definitions)}")
    changed = override(config, changes)
    chosen = {name: override(changed, definitions[name]) for name in definitions if arms is None or name in arms}
    if changed.study.baseline and changed.study.baseline not in definitions:
        wrong = changed.study.baseline
        raise RequestError(f"config.study.baseline: unknown arm {wrong!r}; {nearest(wrong, definitions)}")
    question = (names.get("__doc__") or file.stem).strip().split("\n\n")[0].replace("\n", " ")
    return Experiment(file.stem, question, chosen)
