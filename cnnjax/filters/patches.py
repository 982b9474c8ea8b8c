"""Patches that filters are fitted to: drawn at random places, and brought to one brightness and contrast."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def sample_patches(key: jax.Array, x: jax.Array, window: Sequence[int], count: int) -> jax.Array:
    """Patches of random images at random places, each independent of the others and all places equally likely.

    Args:
      key: of the draw.
      x: [N, *spatial, C], of any dtype.
      window: its size along each spatial dimension; it lies within the image, without padding.
      count: how many patches.

    Returns:
      [count, prod(window) * C] of x's dtype; a patch is laid out as a kernel [*window, C] is.

    Raises:
      ValueError: if the window has another number of dimensions than the images, or does not fit in them.
    """
    spatial, channels = x.shape[1:-1], x.shape[-1]
    if len(window) != len(spatial) or any(not 0 < k <= size for k, size in zip(window, spatial, strict=True)):
        raise ValueError(f"a window of {tuple(window)} does not fit in images of {spatial}")
    choices = (x.shape[0], *(size - k + 1 for k, size in zip(window, spatial, strict=True)), 1)
    keys = jax.random.split(key, len(choices))
    starts = [jax.random.randint(k, (count,), 0, limit) for k, limit in zip(keys, choices, strict=True)]
    cut = jax.vmap(lambda *start: lax.dynamic_slice(x, start, (1, *window, channels)))
    return cut(*starts).reshape(count, -1)


def remove_means(patches: jax.Array) -> jax.Array:
    """Each patch [M, n] without its own mean over its n elements; one of a single value becomes exactly 0."""
    relative = patches - patches[:, :1]  # else rounding of the mean would leave a faint pattern of a bright patch
    return relative - jnp.mean(relative, axis=1, keepdims=True)


@jax.jit
def contrast_normalise(patches: jax.Array, epsilon: float) -> jax.Array:
    """Each patch without its mean, over its standard deviation (Coates 2011, section 3.1.1).

    Args:
      patches: [M, n] float32.
      epsilon: added to each patch's variance, as a share of the mean variance of all the patches, so that the data's
        scale does not matter: patches much fainter than most stay faint. Coates adds 10 to variances of pixels
        between 0 and 255, some 0.01 of their mean.

    Returns:
      [M, n] float32. Patches of one value become 0.
    """
    centred = remove_means(patches)
    variance = jnp.mean(jnp.square(centred), axis=1, keepdims=True)
    regularised = variance + epsilon * jnp.mean(variance)
    return centred * jnp.where(regularised > 0, lax.rsqrt(jnp.where(regularised > 0, regularised, 1)), 0)
