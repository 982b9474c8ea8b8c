"""Any number of images in bounded memory: batch after batch, of one size, so that one program serves them all."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

CONFIDENCE = 0.95

GROUPS = 20
"""Into which the images are dealt for `jackknife`."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Moments:
    """Of one value for each image, or of an array of values for each. Those of two sets of images add up to those of
    both, about their own means, so that a large mean costs no digits (Chan, Golub and LeVeque 1983).

    Attributes:
      examples: how many images, N.
      mean: over them, float64 [...].
      squares: the sum over them of the squared distance to the mean, float64 [...].
    """

    examples: int
    mean: np.ndarray
    squares: np.ndarray

    def __add__(self, other: "Moments") -> "Moments":
        examples = self.examples + other.examples
        apart, share = other.mean - self.mean, other.examples / examples
        squares = self.squares + other.squares + apart**2 * (share * self.examples)
        return Moments(examples, self.mean + share * apart, squares)

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the 95% interval of the mean (Student's t over images), float64 [...]; NaN for one image."""
        if self.examples < 2:
            nothing = np.full(np.shape(self.mean), np.nan)
            return nothing, nothing
        error = np.sqrt(self.squares / (self.examples - 1) / self.examples)
        return self.mean - _quantile(self.examples) * error, self.mean + _quantile(self.examples) * error

    def share_interval(self) -> tuple[np.ndarray, np.ndarray]:
        """As `interval`, for values in [0, 1]: that of a share of so many examples, see `share_interval`.

        Of values in [0, 1] with the mean m none vary more than zeros and ones, by m (1 - m) (Bhatia and Davis 2000, "A
        better bound on the variance"): of those between, it is rather too wide, and never a point where all agree.
        """
        return _wilson(np.asarray(self.mean), self.examples)


def share_interval(count: int, examples: int) -> tuple[float, float]:
    """The ends, in [0, 1], of the 95% interval of a share of which so many of the examples are (Wilson 1927): also
    where none or all are, when Student's t would have it sure."""
    low, high = _wilson(np.asarray(count / examples), examples)
    return float(low), float(high)


def _wilson(share: np.ndarray, examples: int) -> tuple[np.ndarray, np.ndarray]:
    squared = special.ndtri((1 + CONFIDENCE) / 2) ** 2 / examples
    centre = (share + squared / 2) / (1 + squared)
    reach = np.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    low, high = (np.clip(end, 0, 1) for end in (centre - reach, centre + reach))
    # Rounding must not put a share of 0 or 1 outside.
    return np.minimum(low, share), np.maximum(high, share)


def moments_of(values: Any) -> Moments:
    """The moments of values [N, ...], one or an array for each of N images; N is at least 1."""
    array = np.asarray(values, np.float64)
    mean = array.mean(axis=0)
    return Moments(len(array), mean, ((array - mean) ** 2).sum(axis=0))


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
      The pytree of `Moments`.
    """

    def of_batch(mask: jax.Array, *rows: jax.Array) -> Any:
        counted = np.asarray(mask)
        return jax.tree.map(lambda leaf: moments_of(np.asarray(leaf)[counted]), function(*rows))

    return sums(of_batch, arrays, batch_size)


def sums(function: Function, arrays: Sequence[np.ndarray], batch_size: int) -> Any:
    """The sum in float64, over all batches, of what a function gives for each of them.

    Args:
      function: from a mask [batch_size] bool, False for padding, and batches of the arrays to a pytree of arrays of
        fixed shapes, which must not count what the mask leaves out, or of `Moments`; best compiled.
      arrays: [N, ...] each.
      batch_size: images at a time.
    """
    whole: Any = None
    for mask, *rows in batches(arrays, batch_size):
        part = function(jnp.asarray(mask), *map(jnp.asarray, rows))
        part = jax.tree.map(lambda leaf: leaf if isinstance(leaf, Moments) else np.asarray(leaf, np.float64), part)
        whole = part if whole is None else jax.tree.map(operator.add, whole, part)
    return whole


def group_weights(mask: jax.Array, numbers: jax.Array) -> np.ndarray:
    """For each of `GROUPS` groups which images of a batch are in it: 1 or 0, float32 [GROUPS, batch_size].

    Args:
      mask: bool [batch_size], False for what is in no group.
      numbers: int [batch_size], the place of each image among all, by which they are dealt in turn.
    """
    return ((np.asarray(numbers) % GROUPS == np.arange(GROUPS)[:, None]) & np.asarray(mask)).astype(np.float32)


def jackknife(estimate: Callable[[Any], np.ndarray], grouped: Any, examples: np.ndarray) -> Moments:
    """An estimate made from sums over all images, with the interval of the jackknife (Tukey 1958): that of the mean of
    G pseudovalues, G times the estimate less G - 1 times what it is without one of G groups of images.

    Args:
      estimate: from sums, a pytree like `grouped` without the leading axis, to float64 [...].
      grouped: sums by group, a pytree of arrays [groups, ...].
      examples: [groups], how many images each is of; a group of none is passed over.

    Returns:
      The estimate itself as `mean`, and G as `examples`: the interval is NaN where all images are in one group.
    """
    total = jax.tree.map(lambda leaf: leaf.sum(axis=0), grouped)
    everything = estimate(total)
    filled = np.flatnonzero(np.asarray(examples) > 0)
    if len(filled) < 2:
        return Moments(1, everything, np.zeros_like(everything))
    with np.errstate(invalid="ignore"):
        left = [estimate(jax.tree.map(lambda whole, leaf, g=g: whole - leaf[g], total, grouped)) for g in filled]
        pseudovalues = [len(filled) * everything - (len(filled) - 1) * part for part in left]
        return Moments(len(filled), everything, moments_of(pseudovalues).squares)


def _quantile(examples: int) -> float:
    return float(special.stdtrit(examples - 1, (1 + CONFIDENCE) / 2))
