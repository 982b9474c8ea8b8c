"""Features that are read chunk by chunk, so that they need not fit in memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Rows = Callable[[int, int], jax.Array | np.ndarray]
"""A reader of features: from `first` and `last` to rows [first, last) as an array [last - first, D]."""


def array_rows(features: jax.Array | np.ndarray) -> Rows:
    """A reader of features [N, D] that are held in memory."""
    return lambda first, last: features[first:last]


def chunk_reader(rows: Rows, examples: int, chunk: int) -> Callable[[int], jax.Array]:
    """Reads the chunk that starts at a row, float32; see `part_of_chunk` for which rows it holds.

    One shape serves all chunks, and no more is compiled for a shorter last one.
    """
    size = min(chunk, examples)

    def read(first: int) -> jax.Array:
        begin = min(first, examples - size)
        return jnp.asarray(rows(begin, begin + size), jnp.float32)

    return read


@jax.jit
def mean_of_rows(features: jax.Array) -> jax.Array:
    """The mean [D] of rows [m, D]; that of a constant feature is its value exactly."""
    return features[0] + (features - features[0]).mean(0)


def part_of_chunk(examples: int, first: int | jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Where a chunk that starts at row `first` truly begins, and which of its rows are new [size].

    It begins earlier where there are not `size` rows left, with rows that belong to the chunk before.
    """
    begin = jnp.minimum(first, examples - size)
    return begin, begin + jnp.arange(size) >= first
