"""Starting values from variables that were saved: of a run, or in a file."""

from collections.abc import Mapping

import jax

from cnnjax.config import FilterRule, RequestError
from cnnjax.filters.plan import Flat
from cnnjax.filters.sources import is_saved

Saved = Mapping[str, Mapping[str, Flat]]
"""By source, such as `checkpoint:PATH`: its `params` and `batch_stats` by path."""


def take_saved(
    params: Flat, stats: Flat, rules: Mapping[str, FilterRule], saved: Saved
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The parameters and batch statistics, with those of saved sources taken from there.

    Args:
      params, stats: of the network, by path; arrays or their abstract shapes.
      rules: of each parameter.
      saved: all sources that the rules name.

    Raises:
      RequestError: for one that the source lacks or holds in another shape; the first is named.
    """
    taken = {path: _find(saved, rules[path].source, "params", path, array) for path, array in params.items()}
    owners = {path: statistics_source(path, rules) for path in stats}
    moved = {path: _find(saved, owners[path], "batch_stats", path, array) for path, array in stats.items()}
    return taken, moved


def statistics_source(path: str, rules: Mapping[str, FilterRule]) -> str:
    """The source of a statistic: that of the parameters of its module, or of the nearest one around it that has any;
    `init` if they have several."""
    module = path
    while module:
        module = module.rpartition("/")[0]
        sources = {rule.source for other, rule in rules.items() if other.startswith(f"{module}/")}
        if sources:
            return sources.pop() if len(sources) == 1 else "init"
    return "init"


def _find(saved: Saved, source: str, collection: str, path: str, own: jax.Array) -> jax.Array:
    if not is_saved(source):
        return own
    found = saved[source][collection].get(path)
    if found is None:
        raise RequestError(f"{source} has no {path}")
    if tuple(found.shape) != tuple(own.shape):
        raise RequestError(f"{source} has {path} of shape {tuple(found.shape)}; the network needs {tuple(own.shape)}")
    return found
