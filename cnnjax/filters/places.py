"""The layers whose filters a source can give, in the order in which the network runs them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from cnnjax.config import RequestError
from cnnjax.models.network import Network
from cnnjax.models.tracing import trace_network

_WEIGHTS = ("kernel", "centroids")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a layer's filters are, and what they see.

    Attributes:
      path: of the parameter, such as `stage1/conv/kernel`; its last part is `kernel`, or `centroids` where the layer
        compares its input with them instead of multiplying.
      input_shape: what the layer is given: [*spatial, channels], or whatever a dense layer flattens.
      positions: of a layer with filters of its own at each position, the grid; empty where they are shared.
      window: the filters' spatial size; empty for a dense layer.
      channels: that each filter sees.
      features: filters, those of all groups together.
      groups: equal parts of channels and features; the filters of a part see the channels of that part.
      contrast: where the layer brings each patch to one contrast before its filters see it, what it adds to their
        variances; else None.
    """

    path: str
    input_shape: tuple[int, ...]
    positions: tuple[int, ...]
    window: tuple[int, ...]
    channels: int
    features: int
    groups: int = 1
    contrast: float | None = None

    @property
    def layer(self) -> str:
        """The path of the module."""
        return self.path.rpartition("/")[0]

    @property
    def fan_in(self) -> int:
        """How many inputs a filter sums."""
        return math.prod(self.window) * self.channels

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one set of filters: [*window, channels, features]."""
        return (*self.window, self.channels, self.features)


def find_places(model: Network, params: Mapping[str, jax.Array], shape: tuple[int, ...]) -> list[Place]:
    """All places of a network, in the order of execution, without computing anything.

    Args:
      model: the network.
      params: each parameter by path; abstract shapes will do.
      shape: of one input, [*spatial, C].
    """
    layers = trace_network(model, tuple(shape)).layers
    names = ((layer, f"{layer}/{name}") for layer in layers for name in _WEIGHTS)
    return [
        _place(path, tuple(params[path].shape), layers[layer].shape, layers[layer].contrast)
        for layer, path in names
        if path in params
    ]


def _place(path: str, kernel: tuple[int, ...], given: tuple[int, ...], contrast: float | None) -> Place:
    *rest, channels, features = kernel
    dimensions = len(given) - 1
    if len(rest) == 2 * dimensions > 0:
        return Place(path, given, tuple(rest[:dimensions]), tuple(rest[dimensions:]), channels, features)
    convolves = len(rest) == dimensions > 0 and given[-1] % channels == 0
    groups = given[-1] // channels if convolves else 1
    return Place(path, given, (), tuple(rest), channels, features, groups, contrast)


def layer_input(
    model: Network, variables: Mapping[str, Any], x: jax.Array, layer: str, after: str | None = None
) -> jax.Array:
    """What a layer is given when the network runs on x as in evaluation.

    Args:
      model: the network.
      variables: `params` and `batch_stats`, nested.
      x: [N, *spatial, C], or the output of stage `after`.
      layer: the path of its module.
      after: the stage whose output x is; None for the network's input.

    Raises:
      RequestError: for a layer that evaluation does not run, such as one of an auxiliary head.
    """
    seen: list[jax.Array] = []

    def look(call: Any, arguments: Any, keywords: dict[str, Any], context: nn.module.InterceptorContext) -> Any:
        if "/".join(context.module.path) == layer and context.method_name == "__call__":
            seen.append(arguments[0])
        return call(*arguments, **keywords)

    # What comes behind the layer is traced as well, and compiled to nothing.
    with nn.intercept_methods(look):
        model.apply(variables, x, after=after)
    if not seen:
        raise RequestError(f"{layer} sees nothing in evaluation: no filters can be fitted to it")
    return seen[0]
