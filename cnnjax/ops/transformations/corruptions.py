"""What hides the image, drawn from a key: noise, an occluder in front, clutter behind.

All take images whose legal pixels lie from `low` to `high`, see `cnnjax.ops.transformations.photometric`. At one key
all magnitudes draw the same. A key is one for all images, which is folded with their places, or one for each.
"""

import jax
import jax.numpy as jnp

from cnnjax.ops.transformations.elastic import smooth_field
from cnnjax.ops.transformations.magnitudes import keys_of_examples, per_example
from cnnjax.ops.transformations.photometric import add_legally, pixel_range


def noise(
    images: jax.Array, magnitude: jax.typing.ArrayLike, key: jax.Array | None, low: float = 0.0, high: float = 255.0
) -> jax.Array:
    """Independent Gaussian noise on every pixel and channel, clipped to the legal pixels.

    Args:
      images: [N, *spatial, C], floating point.
      magnitude: its standard deviation as a share of high - low, before clipping; 0 at least; a scalar or [N].
      key: one, or one for each image.
      low: the least legal pixel.
      high: the greatest.

    Returns:
      The shape and dtype of the images, which magnitude 0 leaves as they are.

    Raises:
      ValueError: for another shape or dtype, without a key, or if `low` is not below `high`.
    """
    deviation = per_example(magnitude, images) * pixel_range(low, high)
    keys = keys_of_examples(key, images.shape[0])
    drawn = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:], deviation.dtype))(keys)
    return add_legally(images, deviation * drawn, low, high)


def occlusion(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    key: jax.Array | None = None,
    low: float = 0.0,
    high: float = 255.0,
    *,
    position: tuple[float, float] | None = None,
    fill: float = 0.5,
) -> jax.Array:
    """A rectangle of one grey, of the image's proportions, laid over it; a pixel partly covered is mixed by its share.

    Args:
      images: [N, H, W, C], floating point.
      magnitude: the rectangle's sides as a share of the image's, in [0, 1]; a scalar or [N].
      key: draws where it lies, wholly inside the image and uniformly; not needed with a position.
      low: the least legal pixel.
      high: the greatest.
      position: where it lies, down and to the right, each in [0, 1]: (0, 0) is the upper left corner, (1, 1) the lower
        right, (0.5, 0.5) the centre.
      fill: the grey, from 0 for low to 1 for high.

    Returns:
      The shape and dtype of the images, which magnitude 0 leaves as they are.

    Raises:
      ValueError: for another shape or dtype, without key and position, for a position or grey outside [0, 1], or if
        `low` is not below `high`.
    """
    grey = low + fill * pixel_range(low, high)
    if any(not 0 <= share <= 1 for share in (fill, *(position or ()))):
        raise ValueError(f"the position and grey of an occlusion lie in [0, 1]; given {position} and {fill}")
    share = per_example(magnitude, images, 2)
    if position is None:
        keys = keys_of_examples(key, images.shape[0])
        place = jax.vmap(lambda k: jax.random.uniform(k, (2,), share.dtype))(keys)
    else:
        place = jnp.broadcast_to(jnp.array(position, share.dtype), (images.shape[0], 2))
    height, width = images.shape[1:3]
    rows = _covered(height, place[:, :1], share[:, 0, 0])[:, :, None, None]
    columns = _covered(width, place[:, 1:], share[:, 0, 0])[:, None, :, None]
    covered = rows * columns
    return ((1 - covered) * images + covered * grey).astype(images.dtype)


def clutter(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    key: jax.Array | None,
    low: float = 0.0,
    high: float = 255.0,
    *,
    smoothness: float = 1.5,
) -> jax.Array:
    """A random texture behind a bright object on a dark ground, as in the MNIST with backgrounds of Larochelle 2007.

    A pixel at u between low and high, in [0, 1], becomes u + (1 - u) magnitude t: bright ones hide the texture t, which
    is uniform in [0, 1] at each place, smooth from place to place, and the same for all channels.

    Args:
      images: [N, H, W, C], floating point.
      magnitude: the brightest texture as a share of high - low, in [0, 1]; a scalar or [N].
      key: one, or one for each image.
      low: the least legal pixel.
      high: the greatest.
      smoothness: of the texture, in pixels, see `cnnjax.ops.transformations.elastic.smooth_field`.

    Returns:
      The shape and dtype of the images, which magnitude 0 leaves as they are.

    Raises:
      ValueError: for another shape or dtype, without a key, or if the smoothness is not positive or `low`
        not below `high`.
    """
    pixel_range(low, high)
    strength = per_example(magnitude, images, 2)
    field = smooth_field(key, images.shape[0], images.shape[1:3], 1, smoothness)
    texture = jax.scipy.stats.norm.cdf(field)
    below = jnp.maximum(high - images.astype(strength.dtype), 0)
    return add_legally(images, strength * texture * below, low, high)


def _covered(size: int, place: jax.Array, share: jax.Array) -> jax.Array:
    """How much of each pixel, in [0, 1], lies under an interval of `share` of the size at the place: [N, size]."""
    length = share * size
    start = place * (size - length) - 0.5
    pixels = jnp.arange(size)
    overlap = jnp.minimum(pixels + 0.5, start + length) - jnp.maximum(pixels - 0.5, start)
    return jnp.clip(overlap, 0, 1)
