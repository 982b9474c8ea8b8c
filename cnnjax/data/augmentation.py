"""Random changes of training examples, each from its own key."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.keys import fold_in_each


def augment(images: jax.Array, key: jax.Array, places: jax.Array, names: Sequence[str], max_shift: int) -> jax.Array:
    """Each example changed at random, in the order of `names`.

    Args:
      images: [N, *spatial, C].
      key: of this step.
      places: [N], of the examples in the whole batch over all devices; each draws from the key folded with its own.
      names: keys of `AUGMENTATIONS`.
      max_shift: in pixels.

    Returns:
      The shape and dtype of `images`.
    """
    keys = fold_in_each(key, places)
    for number, name in enumerate(names):
        own = jax.vmap(lambda k, number=number: jax.random.fold_in(k, number))(keys)
        images = jax.vmap(lambda image, k, name=name: AUGMENTATIONS[name](image, k, max_shift))(images, own)
    return images


def shift(image: jax.Array, key: jax.Array, max_shift: int) -> jax.Array:
    """Moves an image [*spatial, C] by up to `max_shift` along each axis; zeros come in."""
    dimensions = image.ndim - 1
    padded = jnp.pad(image, ((max_shift, max_shift),) * dimensions + ((0, 0),))
    corner = jax.random.randint(key, (dimensions,), 0, 2 * max_shift + 1)
    return lax.dynamic_slice(padded, (*corner, 0), image.shape)


def flip(image: jax.Array, key: jax.Array, max_shift: int) -> jax.Array:
    """Mirrors an image [*spatial, C] along its last spatial axis, left and right, half of the times."""
    del max_shift
    return jnp.where(jax.random.bernoulli(key), jnp.flip(image, -2), image)


AUGMENTATIONS = {"shift": shift, "flip": flip}
