"""A copy of a network in which some of its layers, or the functions that they hold, are others."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import linen as nn

_FLAX_FIELDS = ("parent", "name")


def rewritten(part: Any, change: Callable[[Any], Any]) -> Any:
    """The part, with whatever `change` gives another thing for replaced by that.

    Followed into the fields of modules and dataclasses and into tuples. Parameters keep their paths, so the copy takes
    the same variables as long as what is new has the old one's parameters, or neither has any.

    Args:
      part: a network, a layer, or anything that one holds.
      change: from a part to what shall stand in its place: itself for no change.
    """
    new = change(part)
    if new is not part:
        return new
    if type(part) is tuple:
        items = tuple(rewritten(item, change) for item in part)
        return part if all(a is b for a, b in zip(items, part, strict=True)) else items
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    fields = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.init and f.name not in _FLAX_FIELDS}
    changed = {name: rewritten(value, change) for name, value in fields.items()}
    changed = {name: value for name, value in changed.items() if value is not fields[name]}
    if not changed:
        return part
    return part.clone(**changed) if isinstance(part, nn.Module) else dataclasses.replace(part, **changed)
