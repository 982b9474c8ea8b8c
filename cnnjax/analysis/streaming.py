"""Any number of images in bounded memory: batch after batch, of one size, so that one program serves them all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

CONFIDENCE = 0.95

Function = Callable[..., Any]


@dataclass(frozen=True)
class Moments:
    """Of one value for each image, or of an array of values for each.

    Attributes:
      examples: how many images, N.
      mean: over them, float64 [...].
      deviation: the sample standard deviation (over N - 1) of the values, float64 [...]; NaN for one image.
    """

    examples: int
    mean: np.ndarray
    deviation: np.ndarray

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the 95% interval of the mean (Student's t over images), float64 [...]; NaN for one image."""
        reach = special.stdtrit(max(self.examples - 1, 1), (1 + CONFIDENCE) / 2) * self.deviation / self.examples**0.5
        return self.mean - reach, self.mean + reach


def batches(arrays: Sequence[np.ndarray], batch_size: int) -> Any:
    """The arrays' rows, so many at a time, as (mask [batch_size] bool, *rows); the last batch is padded with copies of
    its first row, which the mask leaves out.

    Raises:
      ValueError: for no rows, arrays of different lengths, or a batch size below 1.
    """
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths or batch_size < 1:
        raise ValueError(
            f"arrays must have one length of at least 1, not {sorted(lengths)}, and the batch size {batch_size} be at "
            "least 1"
        )
    (examples,) = lengths
    for first in range(0, examples, batch_size):
        rows = np.arange(first, first + batch_size)
        mask = rows < examples
        rows[~mask] = first
        yield (
            mask,
            *(np.asarray(array[first : first + batch_size] if mask.all() else array[rows]) for array in arrays),
        )


def moments(function: Function, arrays: Sequence[np.ndarray], batch_size: int) -> Any:
    """The moments over all images of what a function gives for each of them.

    Args:
      function: from batches of the arrays to a pytree of arrays [batch_size, ...]; best compiled.
      arrays: [N, ...] each.
      batch_size: images at a time.

    Returns:
      The pytree of `Moments`. Sums are kept in float64 about the first image's values, so that a large mean costs no
      digits.
    """
    shift: Any = None
    total: Any = None
    square: Any = None
    count = 0
    for mask, *rows in batches(arrays, batch_size):
        values = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), function(*map(jnp.asarray, rows)))
        values = jax.tree.map(lambda leaf, mask=mask: leaf[mask], values)
        if shift is None:
            shift = jax.tree.map(lambda leaf: leaf[0], values)
            total = square = jax.tree.map(np.zeros_like, shift)
        total = jax.tree.map(lambda t, leaf, s: t + (leaf - s).sum(axis=0), total, values, shift)
        square = jax.tree.map(lambda q, leaf, s: q + ((leaf - s) ** 2).sum(axis=0), square, values, shift)
        count += int(mask.sum())

    def finish(shift: np.ndarray, total: np.ndarray, square: np.ndarray) -> Moments:
        left = np.maximum(square - total**2 / count, 0)
        deviation = np.sqrt(left / (count - 1)) if count > 1 else np.full(np.shape(left), np.nan)
        return Moments(count, shift + total / count, deviation)

    return jax.tree.map(finish, shift, total, square)


def sums(function: Function, arrays: Sequence[np.ndarray], batch_size: int) -> Any:
    """The sum in float64, over all batches, of what a function gives for each of them.

    Args:
      function: from a mask [batch_size] bool, False for padding, and batches of the arrays to a pytree of arrays of
        fixed shapes, which must not count what the mask leaves out; best compiled.
      arrays: [N, ...] each.
      batch_size: images at a time.
    """
    whole: Any = None
    for mask, *rows in batches(arrays, batch_size):
        part = function(jnp.asarray(mask), *map(jnp.asarray, rows))
        part = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), part)
        whole = part if whole is None else jax.tree.map(np.add, whole, part)
    return whole
