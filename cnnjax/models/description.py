"""The table of a network: shapes, parameters, multiply-adds and receptive fields, without allocating a weight."""

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from cnnjax.models.cost import count_multiply_adds
from cnnjax.models.network import Network
from cnnjax.models.receptive_field import Interval, fields_behind, intervals, on_grid
from cnnjax.models.tracing import trace_network

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class StageRow:
    """What `describe` says of a stage, or of all of them together."""

    stage: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activation_bytes: int
    receptive_field: tuple[int, ...] | None = None
    stride: tuple[int, ...] | None = None
    offset: tuple[int, ...] | None = None


def describe(model: Network, input_shape: tuple[int, ...]) -> "pd.DataFrame":
    """One row for each stage, and a last one, `total`.

    Args:
      model: any network.
      input_shape: of one example, without the batch: [*spatial, C].

    Returns:
      A frame with columns
        stage;
        output: the shape of one example behind the stage;
        parameters: numbers trained if nothing is frozen;
        multiply_adds: of one example, in convolutions and dense layers;
        activation_bytes: of what the stage gives to the next, for one example in float32; what is made within it is not
          counted;
        receptive_field, stride, offset: behind the stage, in input elements along each spatial dimension: how many one
          unit sees, how far apart two neighbours' are, and where the first one starts (negative in the padding). Empty
          where the stage mixes all positions.
    """
    # A third of a second, which the command line's tables do without.
    import pandas as pd

    return pd.DataFrame(map(dataclasses.asdict, describe_stages(model, input_shape)), dtype=object)


def describe_stages(model: Network, input_shape: tuple[int, ...]) -> list[StageRow]:
    """The rows of `describe`."""
    trace = trace_network(model, tuple(input_shape))
    fields = on_grid(jax.ShapeDtypeStruct((1, *input_shape), jnp.float32))
    rows = []
    for stage in trace.stages:
        fields = fields_behind(stage.program, fields)
        own = jax.tree.leaves(trace.variables.get("params", {}).get(stage.name, {}))
        rows.append(
            StageRow(
                stage.name,
                stage.output.shape[1:],
                parameters=sum(math.prod(leaf.shape) for leaf in own),
                multiply_adds=count_multiply_adds(stage.program),
                activation_bytes=math.prod(stage.output.shape) * stage.output.dtype.itemsize,
                receptive_field=_along_axes(intervals(fields), "size"),
                stride=_along_axes(intervals(fields), "stride"),
                offset=_along_axes(intervals(fields), "start"),
            )
        )
    sums = {
        field: sum(getattr(row, field) for row in rows) for field in ("parameters", "multiply_adds", "activation_bytes")
    }
    return [*rows, StageRow("total", rows[-1].output, **sums)]


def _along_axes(seen: tuple[Interval, ...] | None, attribute: str) -> tuple[int, ...] | None:
    return None if seen is None else tuple(getattr(interval, attribute) for interval in seen)
