"""cnnjax: a laboratory for convolutional networks in JAX and Flax."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from cnnjax.models import build, describe

if TYPE_CHECKING:
    from cnnjax.study.loading import load, load_study

__all__ = ["build", "describe", "load", "load_study"]


def __getattr__(name: str) -> Any:
    # What reads finished runs takes two seconds to load, and a network is described without it.
    if name in ("load", "load_study"):
        return getattr(importlib.import_module("cnnjax.study.loading"), name)
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
