"""All networks by name."""

import inspect
from collections.abc import Callable
from typing import Any

from cnnjax.config import RequestError, choose, nearest
from cnnjax.models.convnet import convnet
from cnnjax.models.lenet import lenet5
from cnnjax.models.logistic import logistic
from cnnjax.models.network import Network

NETWORKS: dict[str, Callable[..., Network]] = {
    "convnet": convnet,
    "lenet5": lenet5,
    "logistic": logistic,
}


def build(name: str, *, num_classes: int, axis_name: str | None = None, **fields: Any) -> Network:
    """The network of that name.

    Args:
      name: a key of `NETWORKS`.
      num_classes: logits of the head.
      axis_name: the axis of `jax.pmap` that training shares batch statistics over; None for one device.
      **fields: what to change in it (`width=32`); see the network's own function.

    Raises:
      RequestError: for an unknown network, a field that it does not have, or a value that the field does not take.
    """
    make = choose(NETWORKS, name, "model")
    accepted = set(inspect.signature(make).parameters) - {"num_classes", "axis_name"}
    for field in fields:
        if field not in accepted:
            raise RequestError(f"model {name} has no field {field!r}; {nearest(field, accepted or {'none'})}")
    if "axis_name" in inspect.signature(make).parameters:
        fields["axis_name"] = axis_name
    return make(num_classes, **fields)
