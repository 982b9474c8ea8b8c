"""Pooling layers, by name."""

from collections.abc import Callable

import jax

from cnnjax.layers.activations import NEVER_FALLING
from cnnjax.ops.pooling import average_pool, max_pool


def subsample(x: jax.Array, window: int) -> jax.Array:
    """Every `window`-th position and nothing of the others: down-sampling without a summary."""
    return x[(slice(None), *([slice(None, None, window)] * (x.ndim - 2)))]


def no_pool(x: jax.Array, window: int) -> jax.Array:
    """All positions as they are, whatever the window."""
    del window
    return x


def pool_by(pool: Callable[[jax.Array, int], jax.Array], window: int) -> Callable[[jax.Array], jax.Array]:
    """The pool with its window set."""
    return lambda x: pool(x, window)


def commutes(pool: str, act: str) -> bool:
    """Whether it is the same to pool before the detector: the greatest of detected values is the detected greatest."""
    return pool == "max" and act in NEVER_FALLING


POOLS: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "max": lambda x, window: max_pool(x, window),
    "average": lambda x, window: average_pool(x, window),
    "stride": subsample,
    "none": no_pool,
}
