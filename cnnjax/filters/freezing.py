"""Frozen means frozen: which modules run as in evaluation, which statistics stay, which stages are a fixed prefix."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flax import linen as nn

from cnnjax.config import FilterRule
from cnnjax.models.network import Network


def frozen_modules(rules: Mapping[str, FilterRule]) -> frozenset[str]:
    """The paths of the modules all of whose parameters are frozen, such as `stage1` and `stage1/norm`."""
    states: dict[str, bool] = {}
    for path, rule in rules.items():
        for module in _modules_around(path):
            states[module] = states.get(module, True) and rule.state == "frozen"
    return frozenset(module for module, frozen in states.items() if frozen)


def frozen_statistics(paths: Iterable[str], modules: frozenset[str]) -> frozenset[str]:
    """Those of the batch statistics that belong to a frozen module."""
    return frozenset(path for path in paths if not modules.isdisjoint(_modules_around(path)))


def _modules_around(path: str) -> Iterator[str]:
    """Of `stage1/norm/mean` these are `stage1` and `stage1/norm`."""
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def keep_frozen(modules: frozenset[str]) -> Callable[..., Any]:
    """An interceptor for `flax.linen.intercept_methods`: frozen modules run as in evaluation.

    Their batch norm uses its stored statistics and leaves them alone, and their dropout drops nothing.
    """

    def intercept(call: Any, arguments: Any, keywords: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        if keywords.get("train") and "/".join(context.module.path) in modules:
            keywords = {**keywords, "train": False}
        return call(*arguments, **keywords)

    return intercept


def frozen_prefix(model: Network, rules: Mapping[str, FilterRule], modules: frozenset[str]) -> tuple[str, ...]:
    """The leading stages that are frozen whole; empty if the first one with parameters is not.

    Stages without parameters, such as a pooling, belong to the frozen ones before them, and so do those in front.
    """
    own = {path.split("/")[0] for path in rules}
    names = model.stage_names
    end = next((place for place, stage in enumerate(names) if stage in own and stage not in modules), len(names))
    return names[:end] if own.intersection(names[:end]) else ()
