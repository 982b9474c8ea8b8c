"""A network traced once, stage by stage: its shapes and programs, with nothing computed."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import core
from jax.interpreters import partial_eval

from cnnjax.layers.coding import PatchWhitening
from cnnjax.models.network import Network


@dataclasses.dataclass(frozen=True)
class StageTrace:
    """A stage as in evaluation.

    Attributes:
      name: of the stage.
      program: from its input, the program's last, to its output, the program's first. It makes the stage's variables
        too; what the output does not need, such as auxiliary heads, is not in it.
      output: shape [1, ...] and dtype.
    """

    name: str
    program: core.Jaxpr
    output: jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True)
class LayerInput:
    """What a layer is given.

    Attributes:
      shape: [*spatial, channels], or whatever a dense layer flattens; empty for what only holds weights.
      contrast: where the layer brings each patch to one contrast before its filters see it, what it adds to their
        variances; else None.
    """

    shape: tuple[int, ...]
    contrast: float | None


@dataclasses.dataclass(frozen=True)
class Trace:
    """A network, traced for one example.

    Attributes:
      stages: in order.
      variables: shapes and dtypes by collection, nested.
      layers: by path each module in the order of execution; those of auxiliary heads too.
    """

    stages: tuple[StageTrace, ...]
    variables: Mapping[str, Any]
    layers: Mapping[str, LayerInput]


# Tracing a deep network takes seconds: it is done once for each. The programs are large: only the latest are kept.
@functools.lru_cache(maxsize=4)
def trace_network(model: Network, input_shape: tuple[int, ...]) -> Trace:
    """A network traced for an example [*spatial, C]; what is returned must not be changed.

    Raises:
      ValueError: for an example that one of its layers does not take.
    """
    variables: dict[str, Any] = {}
    layers: dict[str, LayerInput] = {}

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if context.method_name == "__call__":
            given = arguments[0].shape[1:] if arguments and isinstance(arguments[0], jax.Array) else ()
            contrast = layer.epsilon if isinstance(layer, PatchWhitening) else None
            layers.setdefault("/".join(layer.path), LayerInput(tuple(given), contrast))
        return call(*arguments, **keywords)

    stages: list[StageTrace] = []
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    for stage in model.stage_names:
        init = functools.partial(model.init_with_output, after=stages[-1].name if stages else None, until=stage)
        with nn.intercept_methods(note):
            traced, (x, made) = jax.make_jaxpr(init, return_shape=True)(jax.random.key(0), x)
        for collection, of_stage in made.items():
            variables.setdefault(collection, {}).update(of_stage)
        output_alone = [True] + [False] * (len(traced.jaxpr.outvars) - 1)
        program, _ = partial_eval.dce_jaxpr(traced.jaxpr, output_alone, instantiate=True)
        stages.append(StageTrace(stage, program, x))
    return Trace(tuple(stages), variables, layers)


@functools.lru_cache(maxsize=256)
def abstract_variables(model: Network, input_shape: tuple[int, ...]) -> Mapping[str, Any]:
    """The shapes and dtypes of a network's variables for examples [*spatial, C], nested; see `trace_network`."""
    return trace_network(model, input_shape).variables
