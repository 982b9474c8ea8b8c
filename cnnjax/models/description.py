"""The table of a network: shapes, parameters, multiply-adds and receptive fields, without allocating a weight."""

import functools
import math

import jax
import jax.numpy as jnp
import pandas as pd

from cnnjax.models.cost import count_multiply_adds
from cnnjax.models.network import Network, abstract_variables, run_stages
from cnnjax.models.receptive_field import Interval, fields_behind, intervals, on_grid


def describe(model: Network, input_shape: tuple[int, ...]) -> pd.DataFrame:
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
        activation_bytes: of the stage's output for one example, in float32;
        receptive_field, stride, offset: behind the stage, in input elements along each spatial dimension: how many one
          unit sees, how far apart two neighbours' are, and where the first one starts (negative in the padding). Empty
          where the stage mixes all positions.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = abstract_variables(model, tuple(input_shape))
    rows = []
    previous, features, fields = None, x, on_grid(x)
    for stage in model.stage_names:
        run = functools.partial(run_stages, model, after=previous, until=stage)
        traced, output = jax.make_jaxpr(run, return_shape=True)(variables, features)
        fields = fields_behind(traced.jaxpr, fields)
        own = jax.tree.leaves(variables["params"].get(stage, {}))
        rows.append(
            {
                "stage": stage,
                "output": output.shape[1:],
                "parameters": sum(math.prod(leaf.shape) for leaf in own),
                "multiply_adds": count_multiply_adds(traced.jaxpr),
                "activation_bytes": math.prod(output.shape) * output.dtype.itemsize,
                "receptive_field": _along_axes(intervals(fields), "size"),
                "stride": _along_axes(intervals(fields), "stride"),
                "offset": _along_axes(intervals(fields), "start"),
            }
        )
        previous, features = stage, output
    table = pd.DataFrame(rows)
    sums = {column: table[column].sum() for column in ("parameters", "multiply_adds", "activation_bytes")}
    total = {"stage": "total", "output": features.shape[1:], **sums}
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True).astype(object).where(lambda t: t.notna(), None)


def _along_axes(seen: tuple[Interval, ...] | None, attribute: str) -> tuple[int, ...] | None:
    return None if seen is None else tuple(getattr(interval, attribute) for interval in seen)
