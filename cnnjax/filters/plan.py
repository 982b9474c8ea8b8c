"""The filter plan: by pattern over parameter paths, where each tensor starts and whether it is trained.

Variables are held flat here and in `train`: a dict from path (`stage1/conv/kernel`) to array.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from flax import traverse_util

from cnnjax.config import FilterRule, RequestError

Flat = dict[str, jax.Array]


def flatten(tree: Mapping[str, Any]) -> Flat:
    """A nested dict by path."""
    return traverse_util.flatten_dict(dict(tree), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict that `flatten` took apart."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def cover(paths: Iterable[str], plan: Sequence[FilterRule]) -> dict[str, FilterRule]:
    """The one rule of each parameter.

    Raises:
      RequestError: if a pattern is no regular expression or matches nothing, a parameter is matched twice or never, or
        nothing is trained.
    """
    paths = list(paths)
    rules: dict[str, FilterRule] = {}
    for rule in plan:
        try:
            matched = [path for path in paths if re.fullmatch(rule.pattern, path)]
        except re.error as error:
            raise RequestError(f"config.filters: {rule.pattern!r} is no regular expression: {error}") from None
        if not matched:
            raise RequestError(f"config.filters: {rule.pattern!r} matches none of {', '.join(paths)}")
        for path in matched:
            if path in rules:
                raise RequestError(
                    f"config.filters: {path} is covered twice, by {rules[path].pattern!r} and {rule.pattern!r}"
                )
            rules[path] = rule
    missing = [path for path in paths if path not in rules]
    if missing:
        raise RequestError(f"config.filters: no rule covers {', '.join(missing)}")
    # A kernel that is combined brings a matrix, which is trained.
    if all(rule.state == "frozen" and not (rule.combinations and is_kernel(path)) for path, rule in rules.items()):
        raise RequestError("config.filters: everything is frozen; at least one parameter must be trained")
    return rules


def is_kernel(path: str) -> bool:
    """Whether the parameter at a path is a kernel, or a matrix that combines kernels: not a bias, a norm's scale, or
    another layer's own coefficients."""
    return path.rpartition("/")[2] in ("kernel", "mixing")
