"""All networks by name."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic

from cnnjax.config import ModelConfig, RequestError, choose, explain, nearest
from cnnjax.models.alexnet import alexnet
from cnnjax.models.all_cnn import all_cnn_c
from cnnjax.models.coates import coates
from cnnjax.models.convnet import convnet, convnet_mnist1d
from cnnjax.models.densenet import DENSENETS
from cnnjax.models.googlenet import GOOGLENETS
from cnnjax.models.gru import gru
from cnnjax.models.jarrett import jarrett
from cnnjax.models.lenet import lenet1, lenet5
from cnnjax.models.logistic import logistic
from cnnjax.models.mlp import mlp
from cnnjax.models.network import Network
from cnnjax.models.pcanet import pcanet
from cnnjax.models.resnet import PLAIN, RESNETS
from cnnjax.models.resnet_cifar import CIFAR_PLAIN, CIFAR_RESNETS
from cnnjax.models.vgg import VGGS

NETWORKS: dict[str, Callable[..., Network]] = {
    "logistic": logistic,
    "mlp": mlp,
    "gru": gru,
    "convnet": convnet,
    "convnet_mnist1d": convnet_mnist1d,
    "lenet1": lenet1,
    "lenet5": lenet5,
    "alexnet": alexnet,
    **VGGS,
    **GOOGLENETS,
    **RESNETS,
    **PLAIN,
    **CIFAR_RESNETS,
    **CIFAR_PLAIN,
    **DENSENETS,
    "all_cnn_c": all_cnn_c,
    "jarrett": jarrett,
    "coates": coates,
    "pcanet": pcanet,
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
    fixed_by_name = set(make.keywords) if isinstance(make, functools.partial) else set()
    accepted = set(inspect.signature(make).parameters) - {"num_classes", "axis_name"} - fixed_by_name
    for field in fields:
        if field not in accepted:
            raise RequestError(f"model {name} has no field {field!r}; {nearest(field, accepted or {'none'})}")
    if not isinstance(num_classes, int | np.integer) or num_classes < 1:
        raise RequestError(f"num_classes must be a whole number of at least 1; given {num_classes!r}")
    try:
        checked = ModelConfig(name=name, **fields)
    except pydantic.ValidationError as error:
        raise RequestError(explain(error).replace("config.", f"model {name}: ", 1)) from None
    fields = {field: getattr(checked, field) for field in fields}
    if "axis_name" in inspect.signature(make).parameters:
        fields["axis_name"] = axis_name
    return make(int(num_classes), **fields)
