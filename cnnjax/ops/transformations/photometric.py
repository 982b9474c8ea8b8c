"""The light changes: brightness, contrast and gamma.

All take images [N, *spatial, C] of floating point whose legal pixels lie from `low` to `high` (such as 0 and 255, or 0
and 1: before any standardisation), and a magnitude, a scalar or [N], one for each image. They are differentiable in
both, leave the image as it is at magnitude 0, keep legal pixels legal, and return the shape and dtype of the images.
They raise ValueError for another shape or dtype and if `low` is not below `high`.
"""

import math

import jax
import jax.numpy as jnp

from cnnjax.ops.transformations.magnitudes import per_example


def brightness(images: jax.Array, magnitude: jax.typing.ArrayLike, low: float = 0.0, high: float = 255.0) -> jax.Array:
    """`magnitude` times (high - low) added to every pixel; in [-1, 1]."""
    return add_legally(images, per_example(magnitude, images) * pixel_range(low, high), low, high)


def contrast(images: jax.Array, magnitude: jax.typing.ArrayLike, low: float = 0.0, high: float = 255.0) -> jax.Array:
    """The differences from the image's mean, over places and channels, made 1 + `magnitude` times as large.

    The magnitude is -1 at least, where all pixels are the mean; at 1 the contrast is doubled.
    """
    pixel_range(low, high)
    change = per_example(magnitude, images)
    mean = jnp.mean(images.astype(change.dtype), axis=tuple(range(1, images.ndim)), keepdims=True)
    return add_legally(images, change * (images - mean), low, high)


def gamma(images: jax.Array, magnitude: jax.typing.ArrayLike, low: float = 0.0, high: float = 255.0) -> jax.Array:
    """The pixels' place u between low and high, in [0, 1], becomes u ** (2 ** magnitude).

    The magnitude is in octaves of the exponent; any. A positive one darkens, as weaker illumination does.
    """
    span = pixel_range(low, high)
    exponent_less_1 = jnp.expm1(math.log(2) * per_example(magnitude, images))
    above = images.astype(exponent_less_1.dtype) - low
    # Black stays black whatever the logarithm; without a bound, its infinity times 0 would spoil it.
    u = jnp.maximum(above / span, 1e-6)
    return add_legally(images, above * jnp.expm1(exponent_less_1 * jnp.log(u)), low, high)


def pixel_range(low: float, high: float) -> float:
    """high - low.

    Raises:
      ValueError: if that is not positive and finite.
    """
    if not 0 < high - low < math.inf:
        raise ValueError(f"the legal pixels lie from low to high, low < high; given {low} and {high}")
    return high - low


def add_legally(images: jax.Array, change: jax.Array, low: float, high: float) -> jax.Array:
    """images + change, clipped to [low, high], in the dtype of the images. A pixel that was outside may stay as it was.

    Where it comes to lie on a bound, the derivative by the change is the mean of those at both sides, one half; that by
    the image is 1, so that the identity, of magnitude 0, has the derivative of the identity at black pixels too.
    """
    before = jax.lax.stop_gradient(images).astype(change.dtype)
    least, greatest = jnp.minimum(before, low), jnp.maximum(before, high)
    changed = before + change
    inside = (changed >= least) & (changed <= greatest)
    # `minimum` and `maximum` share the derivative between ties; the last term is 0 and has only a derivative.
    clipped = jnp.minimum(jnp.maximum(changed, least), greatest) + inside * (images - before)
    return clipped.astype(images.dtype)
