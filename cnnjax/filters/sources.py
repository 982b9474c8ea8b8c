"""All sources of filters by name, and a network's starting values under a plan."""

from collections.abc import Callable, Mapping

import jax

from cnnjax.config import FilterRule, choose
from cnnjax.filters import random
from cnnjax.filters.plan import Flat, is_kernel
from cnnjax.ops.keys import fold_in_name

Source = Callable[[jax.Array, tuple[int, ...]], jax.Array]

SOURCES: dict[str, Source | None] = {
    "init": None,
    "gaussian": random.gaussian,
    "uniform": random.uniform,
    "orthogonal": random.orthogonal,
    "signs": random.signs,
}
"""From a key and a kernel's shape [*window, in, out] to its values; None keeps the network's own initialiser."""


def starting_values(params: Flat, rules: Mapping[str, FilterRule], key: jax.Array) -> Flat:
    """The parameters with each kernel from its rule's source; everything else stays as it is.

    Args:
      params: from the network's own initialisers, by path.
      rules: of each path; see `cnnjax.filters.plan.cover`.
      key: each path draws from it folded with its name.

    Raises:
      RequestError: for an unknown source.
    """
    values = {}
    for path, array in params.items():
        source = choose(SOURCES, rules[path].source, "source of filters")
        keep = source is None or not is_kernel(path)
        values[path] = array if keep or source is None else source(fold_in_name(key, path), array.shape)
    return values
