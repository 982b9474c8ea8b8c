"""What to ask of a finished run: invariance, equivariance, similarity, gradients, pictures, attacks."""

import importlib
import importlib.util
from typing import Any


def __getattr__(name: str) -> Any:
    # So that `cnnjax.analysis.confusion` is there for whoever has imported `cnnjax` alone.
    if importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
