"""Reading, writing and changing configs by the names of their fields."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

import pydantic

from cnnjax.config.errors import RequestError, choose, nearest
from cnnjax.config.sections import Config, ModelConfig

_ADAPTER: pydantic.TypeAdapter[Config] = pydantic.TypeAdapter(Config)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON values."""
    return _ADAPTER.dump_python(config, mode="json")


def from_dict(values: Mapping[str, Any]) -> Config:
    """The config that `to_dict` wrote.

    Raises:
      RequestError: for an unknown field, a wrong type, or a value out of range.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except pydantic.ValidationError as error:
        raise RequestError(explain(error)) from None


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """`config` with the fields in `changes` replaced.

    Another network by `model.name` starts from its own defaults: the fields that were set for the one before go.

    Args:
      config: where to start from.
      changes: values by dotted path (`optim.lr`), as Python values or as a flag's text; or a whole section by its name
        (`model`), as its dataclass.

    Raises:
      RequestError: for a path that names no field, a wrong type, or a value out of range.
    """
    values = to_dict(config)
    kinds = {name: type(section) for name, section in vars(config).items() if dataclasses.is_dataclass(section)}
    if changes.get("model.name", config.model.name) != config.model.name:
        values["model"] = dataclasses.asdict(ModelConfig())
    for path, value in changes.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if not isinstance(value, choose(kinds, path, "section of the config")):
                wanted, given = kinds[path].__name__, type(value).__name__
                raise RequestError(f"config.{path}: should be a {wanted}; given a {given}")
            values[path] = dataclasses.asdict(value)
            continue
        *sections, field = check_path(path).split(".")
        target = values
        for section in sections:
            target = target[section]
        target[field] = None if value == "none" and _is_optional(path) else value
    return from_dict(values)


def check_path(path: str) -> str:
    """`path` itself, if it names a field such as `optim.lr`; else `RequestError` with the nearest name there is."""
    schema: Any = Config
    names = path.split(".")
    for depth, name in enumerate(names):
        fields = {f.name for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else set()
        if not fields:
            raise RequestError(f"config.{path}: config.{'.'.join(names[:depth])} is a field and has no parts")
        if name not in fields:
            below = ".".join([*names[:depth], ""])
            wrong = f"config.{below}{name}: no such field"
            elsewhere = [p for p in field_paths() if p.rpartition(".")[2] == name]
            if elsewhere and not difflib.get_close_matches(name, fields, n=1, cutoff=0.6):
                raise RequestError(f"{wrong}; did you mean 'config.{elsewhere[0]}'?")
            raise RequestError(f"{wrong}; {nearest(name, fields)}")
        schema = typing.get_type_hints(schema)[name]
    if dataclasses.is_dataclass(schema):
        inside = ", ".join(f.name for f in dataclasses.fields(schema))
        raise RequestError(f"config.{path}: a section, not a field; its fields are: {inside}")
    return path


def field_paths() -> list[str]:
    """The dotted path of every field, such as `optim.lr`."""
    return list(flatten(to_dict(Config())))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a nested dict by dotted path; lists are values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def explain(error: pydantic.ValidationError) -> str:
    """One line for the first thing that is wrong."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"] if not str(part).startswith(("function-", "constrained-"))]
    where = ".".join(["config", *(n for n in names if n not in ("int", "float"))])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where}: no such field"
    what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: {what}; given {first['input']!r}"


def is_whole(path: str) -> bool:
    """Whether the field at a path holds whole numbers."""
    return int in _kinds(path)


def _is_optional(path: str) -> bool:
    """Whether `none` unsets the field; for text it is a value, such as the norm of that name."""
    return type(None) in _kinds(path) and str not in _kinds(path)


def _kinds(path: str) -> tuple[Any, ...]:
    """The type of the field at a path, or those that its union allows."""
    section, _, field = path.rpartition(".")
    schema: Any = typing.get_type_hints(Config)[section] if section else Config
    hint = typing.get_type_hints(schema)[field]
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
