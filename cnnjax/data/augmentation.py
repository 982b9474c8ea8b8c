"""Random changes of training examples, each from its own key."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.config import RequestError, choose
from cnnjax.ops.keys import fold_in_each
from cnnjax.ops.transformations.table import TRANSFORMATIONS, check_transformation, find, transformation


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training examples are changed.

    Attributes:
      names: keys of `AUGMENTATIONS`, or names as `cnnjax.ops.transformations.transformation` takes them, in this order;
        the former come first where both have a name.
      max_shift: of `shift`, in pixels.
      low, high: the least and the greatest legal pixel.
    """

    names: tuple[str, ...] = ()
    max_shift: int = 2
    low: float = 0.0
    high: float = 255.0


def augment(
    images: jax.Array, key: jax.Array, places: jax.Array, augmentation: Augmentation, strength: float | jax.Array = 0.1
) -> jax.Array:
    """Each example changed at random, by one change after another.

    Args:
      images: [N, *spatial, C].
      key: of this step.
      places: [N], of the examples in the whole batch over all devices; each draws from the key folded with its own.
      augmentation: the changes.
      strength: of a transformation: the share of its range that its magnitudes are drawn from, uniformly.

    Returns:
      The shape and dtype of `images`; float32 where a transformation is among the changes.
    """
    keys = fold_in_each(key, places)
    for number, name in enumerate(augmentation.names):
        own = _fold_in_all(keys, number)
        if name in AUGMENTATIONS:
            change = AUGMENTATIONS[name]
            images = jax.vmap(lambda image, k, change=change: change(image, k, augmentation.max_shift))(images, own)
        else:
            images = _transformed(images, own, name, augmentation, strength)
    return images


def check_augmentation(names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Raises `RequestError` for a name or setting that there is not, or not for examples [*spatial, C]."""
    for name in names:
        choose({**AUGMENTATIONS, **TRANSFORMATIONS}, name.partition("(")[0], "augmentation")
        if name not in AUGMENTATIONS:
            try:
                check_transformation(name, shape)
            except ValueError as error:
                raise RequestError(str(error)) from None


def _transformed(
    images: jax.Array, keys: jax.Array, name: str, augmentation: Augmentation, strength: float | jax.Array
) -> jax.Array:
    """Each image transformed by a magnitude that is drawn for it."""
    least, greatest = (strength * end for end in find(name).range)
    magnitudes = jax.vmap(lambda k: jax.random.uniform(k, minval=least, maxval=greatest))(_fold_in_all(keys, 0))
    apply = transformation(name, low=augmentation.low, high=augmentation.high)
    return apply(images.astype(jnp.float32), magnitudes, _fold_in_all(keys, 1))


def _fold_in_all(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


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
