"""A module's variables, drawn with NumPy: nothing is compiled, and a test does not depend on how JAX draws."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def drawn_variables(module: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Normal values, scaled by fan-in, in every parameter; positive ones in every running statistic."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(input_shape, jnp.float32))

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        values = rng.normal(size=leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        return (np.abs(values) + 0.1 if path[0].key == "batch_stats" else values).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)
