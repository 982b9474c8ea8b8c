"""What transformed images are to a network: one program serves all magnitudes, and all batches of a size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.ops.keys import fold_in_each
from cnnjax.ops.transformations.table import find, transformation


def transformed(
    subject: Subject, images: jax.Array, numbers: jax.Array, magnitude: jax.Array, key: jax.Array | None, name: str
) -> jax.Array:
    """The images, transformed.

    Args:
      subject: the network, which says which pixels are legal.
      images: [N, *spatial, C] in their own units, of any dtype.
      numbers: int [N], the place of each among all images: an image draws the same in whichever batch it lies.
      magnitude: a scalar in the transformation's unit, the same for all.
      key: what a random transformation draws from; unread by others.
      name: a key of `cnnjax.ops.transformations.TRANSFORMATIONS`.

    Returns:
      float32, of the images' shape. Magnitude 0 leaves them as they are.

    Raises:
      ValueError: for a name that there is not, images of other dimensions than it takes, and without a key where it
        draws.
    """
    keys = fold_in_each(key, numbers) if key is not None and find(name).random else None
    apply = transformation(name, low=subject.low, high=subject.high)
    return apply(images.astype(jnp.float32), magnitude, keys)


@functools.partial(jax.jit, static_argnames="name")
def transformed_outputs(
    subject: Subject, images: jax.Array, numbers: jax.Array, magnitude: jax.Array, key: jax.Array | None, name: str
) -> dict[str, jax.Array]:
    """`stage_outputs` of `transformed` images, compiled once for all magnitudes.

    At magnitude 0 it gives those of the images themselves, to the last bit the same in every call. The stages come
    sorted by name, as from any compiled function; `Subject.stages` has their order.
    """
    return stage_outputs(subject, transformed(subject, images, numbers, magnitude, key, name))


def numbered(images: np.ndarray) -> np.ndarray:
    """The place of each image among all: int32 [N]."""
    return np.arange(len(images), dtype=np.int32)
