"""Features of a frozen prefix, computed once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.feed import standardise
from cnnjax.models.network import Network, run_stages

# Features that need more memory than this are computed anew at each step instead.
MOST_FEATURE_BYTES = 2**30

FeatureFunction = Callable[[dict[str, Any], jax.Array], jax.Array]


def feature_function(model: Network, until: str, mean: tuple[float, ...], std: tuple[float, ...]) -> FeatureFunction:
    """From variables and images [N, *spatial, C] to the output of stage `until`, as in evaluation; compiled."""

    @jax.jit
    def features(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return run_stages(model, variables, standardise(images, mean, std), until=until)

    return features


def fits(function: FeatureFunction, variables: dict[str, Any], shape: tuple[int, ...], examples: int) -> bool:
    """Whether the features of so many images of this shape fit in `MOST_FEATURE_BYTES`."""
    one = jax.eval_shape(function, variables, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return one.size * one.dtype.itemsize * examples <= MOST_FEATURE_BYTES


def compute_features(
    function: FeatureFunction,
    variables: dict[str, Any],
    images: np.ndarray,
    batch_size: int,
    between: Callable[[], None],
) -> jax.Array:
    """The features of all images, in batches of one size (the last one padded), on the device.

    Args:
      function: see `feature_function`.
      variables: of the network.
      images: [N, *spatial, C].
      batch_size: images at a time.
      between: called before each batch; it may raise to stop.
    """
    parts = []
    for first in range(0, len(images), batch_size):
        between()
        batch = images[first : first + batch_size]
        padded = np.pad(batch, ((0, batch_size - len(batch)), *[(0, 0)] * (images.ndim - 1)))
        parts.append(function(variables, jnp.asarray(padded))[: len(batch)])
    return jnp.concatenate(parts)
