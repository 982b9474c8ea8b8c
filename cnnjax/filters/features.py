"""Features of a frozen prefix, computed once."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.feed import standardise
from cnnjax.filters.plan import Flat
from cnnjax.models.network import Network, run_stages

# What is kept in memory; an array of more is read part by part, from its file where there is one.
MOST_FEATURE_BYTES = 2**30

FeatureFunction = Callable[[dict[str, Any], jax.Array], jax.Array]
Fill = Callable[[np.ndarray], None]


class FeatureStore(Protocol):
    """Where features are kept."""

    def get(self, key: str, shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
        """The array under a key; made and filled, if it is not there."""


class MemoryStore:
    """Features in memory, those used last, of at most `MOST_FEATURE_BYTES` together or of one array alone."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()

    def get(self, key: str, shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
        """See `FeatureStore`."""
        if key not in self._kept:
            needed = math.prod(shape) * dtype.itemsize
            while self._kept and needed + sum(array.nbytes for array in self._kept.values()) > MOST_FEATURE_BYTES:
                self._kept.popitem(last=False)
            array = np.empty(shape, dtype)
            fill(array)
            self._kept[key] = array
        self._kept.move_to_end(key)
        return self._kept[key]


def feature_function(model: Network, until: str, mean: tuple[float, ...], std: tuple[float, ...]) -> FeatureFunction:
    """From variables and images [N, *spatial, C] to the output of stage `until`, as in evaluation; compiled."""

    @jax.jit
    def features(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        return run_stages(model, variables, standardise(images, mean, std), until=until)

    return features


def feature_shape(
    function: FeatureFunction, variables: dict[str, Any], shape: tuple[int, ...]
) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of one image's features; nothing is computed."""
    one = jax.eval_shape(function, variables, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return one.shape[1:], np.dtype(one.dtype)


def feature_key(what: object, *variables: Flat) -> str:
    """A name for features: the same for the same prefix on the same data, whatever run asks.

    Args:
      what: all that decides on them but the variables, told apart by its `repr`.
      variables: parameters and statistics of the prefix, by path.
    """
    digest = hashlib.sha256(repr(what).encode())
    for flat in variables:
        for path in sorted(flat):
            digest.update(path.encode())
            digest.update(np.asarray(flat[path]).tobytes())
    return digest.hexdigest()[:32]


def compute_features(
    function: FeatureFunction,
    variables: dict[str, Any],
    images: np.ndarray,
    batch_size: int,
    out: np.ndarray,
    between: Callable[[float], None],
) -> None:
    """Writes the features of all images into `out` [N, ...], in batches of one size (the last one padded).

    Args:
      function: see `feature_function`.
      variables: of the network.
      images: [N, *spatial, C].
      batch_size: images at a time.
      out: of the features' shape.
      between: called with the share done before each batch; it may raise to stop.
    """
    for first in range(0, len(images), batch_size):
        between(first / len(images))
        batch = images[first : first + batch_size]
        padded = np.pad(batch, ((0, batch_size - len(batch)), *[(0, 0)] * (images.ndim - 1)))
        out[first : first + len(batch)] = np.asarray(function(variables, jnp.asarray(padded)))[: len(batch)]
