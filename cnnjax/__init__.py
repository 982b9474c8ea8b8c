"""cnnjax: a laboratory for convolutional networks in JAX and Flax."""

from typing import TYPE_CHECKING, Any

from cnnjax.models import build, describe

if TYPE_CHECKING:
    from cnnjax.study.loading import load, load_study

__all__ = ["build", "describe", "load", "load_study"]


def __getattr__(name: str) -> Any:
    # What reads finished runs takes two seconds to load, and a network is described without it.
    if name in ("load", "load_study"):
        from cnnjax.study import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
