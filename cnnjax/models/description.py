"""The table of a network: shapes, parameters, multiply-adds and receptive fields, without allocating a weight."""

import math

import jax
import jax.numpy as jnp
import pandas as pd

from cnnjax.models.cost import multiply_adds
from cnnjax.models.network import Network
from cnnjax.models.receptive_field import receptive_field


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
        receptive_field, stride, offset: behind the stage, in input elements along each spatial dimension: how many one
          unit sees, how far apart two neighbours' are, and where the first one starts (negative in the padding). Empty
          where the stage mixes all positions.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    rows = []
    previous, features = None, x
    for stage in model.stage_names:

        def run(variables, x, previous=previous, stage=stage):
            return model.apply(variables, x, after=previous, until=stage)

        def from_input(variables, x, stage=stage):
            return model.apply(variables, x, until=stage)

        output = jax.eval_shape(run, variables, features)
        field = receptive_field(from_input, variables, x)
        own = jax.tree.leaves(variables["params"].get(stage, {}))
        rows.append(
            {
                "stage": stage,
                "output": output.shape[1:],
                "parameters": sum(math.prod(leaf.shape) for leaf in own),
                "multiply_adds": multiply_adds(run, variables, features),
                "receptive_field": field and tuple(axis.size for axis in field),
                "stride": field and tuple(axis.stride for axis in field),
                "offset": field and tuple(axis.start for axis in field),
            }
        )
        previous, features = stage, output
    table = pd.DataFrame(rows)
    sums = {column: table[column].sum() for column in ("parameters", "multiply_adds")}
    total = {"stage": "total", "output": features.shape[1:], **sums}
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True).astype(object).where(lambda t: t.notna(), None)
