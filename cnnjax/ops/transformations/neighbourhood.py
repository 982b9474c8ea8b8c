"""Images whose pixels change with what lies around them: blur, and strokes made thicker or thinner."""

from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp

from cnnjax.ops.transformations.magnitudes import per_example
from cnnjax.ops.transformations.warps import WarpBorder, hat

PAD_MODES = {"circular": "wrap", "zeros": "constant", "edge": "edge"}


def blur(
    images: jax.Array, magnitude: jax.typing.ArrayLike, *, radius: int = 12, border: WarpBorder = "edge"
) -> jax.Array:
    """Each channel convolved with a Gaussian sampled at whole pixels, along every spatial dimension.

    Its derivative by the magnitude at 0 is 0, as that of the sampled Gaussian is.

    Args:
      images: [N, *spatial, C], floating point.
      magnitude: the standard deviation in pixels, from 0 to about a third of the radius; a scalar or [N].
      radius: the Gaussian is cut off beyond this many pixels.
      border: what lies beyond the image: its other side, zeros, or its nearest pixel.

    Returns:
      The shape and dtype of the images, which magnitude 0 leaves as they are.

    Raises:
      ValueError: for another shape, dtype or border, or if the radius is not positive.
    """
    if radius < 1:
        raise ValueError(f"the radius of a blur is positive; given {radius}")
    if border not in PAD_MODES:
        raise ValueError(f"unknown border {border!r}; there are: {', '.join(get_args(WarpBorder))}")
    weights = _gaussian(per_example(magnitude, images), radius)
    out = images.astype(weights[0].dtype)
    for axis in range(1, images.ndim - 1):
        pads = [(radius, radius) if a == axis else (0, 0) for a in range(images.ndim)]
        padded = jnp.pad(out, pads, mode=PAD_MODES[border])
        shifted = (_slice(padded, axis, start, images.shape[axis]) for start in range(2 * radius + 1))
        out = sum((w * s for w, s in zip(weights, shifted, strict=True)), jnp.zeros_like(out))
    return out.astype(images.dtype)


def stroke_weight(images: jax.Array, magnitude: jax.typing.ArrayLike, *, max_radius: int = 2) -> jax.Array:
    """Bright strokes on a dark ground made thicker by `magnitude` pixels at each side, or thinner if it is negative.

    The greatest value (dilation), or the least (erosion), of the square of 2 r + 1 pixels around each, what lies beyond
    the image left out; between whole radii r interpolated linearly, so whole pixels are exact. At them, where there is
    a kink, the derivative is the mean of those at both sides.

    Args:
      images: [N, *spatial, C], floating point.
      magnitude: in pixels, from -max_radius to max_radius, to which it is clipped; a scalar or [N].
      max_radius: all whole radii up to this one are computed.

    Returns:
      The shape and dtype of the images, which magnitude 0 leaves as they are.

    Raises:
      ValueError: for another shape or dtype, or if the greatest radius is not positive.
    """
    if max_radius < 1:
        raise ValueError(f"the greatest radius of a stroke's change is positive; given {max_radius}")
    change = jnp.clip(per_example(magnitude, images), -max_radius, max_radius)
    total = hat(change) * images
    thicker = thinner = images
    for radius in range(1, max_radius + 1):
        thicker = _extreme(thicker, jnp.maximum, -jnp.inf)
        thinner = _extreme(thinner, jnp.minimum, jnp.inf)
        total += hat(change - radius) * thicker + hat(change + radius) * thinner
    return total.astype(images.dtype)


def _gaussian(sigma: jax.Array, radius: int) -> list[jax.Array]:
    """The weights at -radius, ..., radius, 1 in all; each of the shape of sigma."""
    variance = sigma**2
    # Below this all neighbours' weights are less than the least number there is, and 1 / variance may overflow.
    blurred = variance > 1e-3
    safe = jnp.where(blurred, variance, 1)
    half = [jnp.where(blurred, jnp.exp(-(k**2) / (2 * safe)), float(k == 0)) for k in range(radius + 1)]
    total = half[0] + 2 * sum(half[1:], jnp.zeros_like(sigma))
    return [half[abs(k)] / total for k in range(-radius, radius + 1)]


def _extreme(x: jax.Array, extreme: Callable[[jax.Array, jax.Array], jax.Array], outside: float) -> jax.Array:
    """The extreme of the 3 x ... x 3 elements around each."""
    for axis in range(1, x.ndim - 1):
        pads = [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)]
        padded = jnp.pad(x, pads, constant_values=outside)
        before, after = (_slice(padded, axis, start, x.shape[axis]) for start in (0, 2))
        x = extreme(x, extreme(before, after))
    return x


def _slice(x: jax.Array, axis: int, start: int, size: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, start, start + size, axis=axis)
