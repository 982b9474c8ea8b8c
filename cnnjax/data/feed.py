"""The feed: where all examples live on the device, a batch is a gather."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.dataset import Split


class Feed(NamedTuple):
    """Examples, on the device once they are trained on; of too many for it, a window at a time.

    Attributes:
      images: [N, ...], uint8 as read, or float32 (signals, or the features of a frozen prefix).
      labels: [N] int32.
    """

    images: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray


def resident(split: Split) -> Feed:
    """The split on the device, in its own dtype."""
    return Feed(jnp.asarray(split.images), jnp.asarray(split.labels))


def epoch_order(key: jax.Array, epoch: jax.Array, examples: int) -> jax.Array:
    """The order of one epoch [examples]: a permutation that depends on the key of the seed's order and the epoch."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), examples)


def standardise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """(images - mean) / std for each channel, float32. The mean and std are in the images' own units."""
    return (images.astype(jnp.float32) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
