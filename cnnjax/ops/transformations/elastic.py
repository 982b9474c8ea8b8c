"""Smooth random fields, and images deformed by them as if drawn on rubber."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.transformations.magnitudes import keys_of_examples, per_example
from cnnjax.ops.transformations.warps import Interpolation, WarpBorder, resample


def elastic(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    key: jax.Array | None,
    *,
    smoothness: float = 4.0,
    border: WarpBorder = "zeros",
    interpolation: Interpolation = "linear",
) -> jax.Array:
    """Each pixel displaced by a smooth random field, which the magnitude scales (Simard, Steinkraus and Platt 2003).

    At one key all magnitudes share the field, at magnitude 0 the image is left as it is.

    Args:
      images: [N, H, W, C], floating point.
      magnitude: the standard deviation of the displacements along each axis, in pixels; any, a negative one displaces
        the other way. Beyond about the smoothness the image folds over itself. A scalar or [N].
      key: one, or one for each image.
      smoothness: of the field, see `smooth_field`.
      border: see `cnnjax.ops.transformations.warps.resample`.
      interpolation: likewise.

    Returns:
      The shape and dtype of the images.

    Raises:
      ValueError: for another shape, dtype, border or interpolation, without a key, or if the smoothness is not
        positive.
    """
    strength = per_example(magnitude, images, 2)[..., 0]
    field = smooth_field(key, images.shape[0], images.shape[1:3], 2, smoothness)
    rows = jnp.arange(images.shape[1])[None, :, None] + strength * field[..., 0]
    columns = jnp.arange(images.shape[2])[None, None, :] + strength * field[..., 1]
    return resample(images, (rows, columns), border=border, interpolation=interpolation)


def smooth_field(
    key: jax.Array | None, examples: int, spatial: Sequence[int], features: int, smoothness: float
) -> jax.Array:
    """Gaussian random fields of mean 0 and variance 1: white noise convolved with a Gaussian.

    Args:
      key: one, or one for each example.
      examples: N.
      spatial: height and width.
      features: how many fields for each example, independent of each other.
      smoothness: the Gaussian's standard deviation, in pixels; two places this far apart correlate by exp(-1/4).

    Returns:
      float32 [N, H, W, features].

    Raises:
      ValueError: without a key, or if the smoothness is not positive.
    """
    if smoothness <= 0:
        raise ValueError(f"the smoothness of a random field is positive; given {smoothness}")
    blurs = [_unit_variance_blur(size, smoothness) for size in spatial]
    shape = (*(blur.shape[1] for blur in blurs), features)
    noise = jax.vmap(lambda k: jax.random.normal(k, shape))(keys_of_examples(key, examples))
    return jnp.einsum("hi,wj,nijf->nhwf", *blurs, noise, precision="highest")


def _unit_variance_blur(size: int, smoothness: float) -> np.ndarray:
    """[size, size + 2 radius]: a Gaussian to each place, whose squares have the sum 1."""
    radius = int(np.ceil(3 * smoothness))
    offsets = np.arange(size + 2 * radius) - radius - np.arange(size)[:, None]
    weights = np.where(np.abs(offsets) <= radius, np.exp(-0.5 * (offsets / smoothness) ** 2), 0)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
