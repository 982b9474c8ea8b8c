"""Images moved, turned, sized, slanted, mirrored and seen from the side.

All take images [N, H, W, C] of floating point and a magnitude, a scalar or [N], one for each image; they are
differentiable in both and leave the image as it is at magnitude 0. They return the shape and dtype of the images. They
raise ValueError for another shape, border or interpolation. `border` and `interpolation` are those of
`cnnjax.ops.transformations.warps.resample`. With a `grid`, what is given are features that lie on it, and they move as
the image does: magnitudes and the centre are still the image's.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from cnnjax.ops.transformations.magnitudes import per_example
from cnnjax.ops.transformations.warps import Grid, Interpolation, WarpBorder, pixel_grid, places, resample, resample_at

Axis = Literal["vertical", "horizontal"]


def translation(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    *,
    direction: tuple[float, float] = (0, 1),
    border: WarpBorder = "circular",
    crop: int = 0,
    interpolation: Interpolation = "linear",
    grid: Grid | None = None,
) -> jax.Array:
    """The image moved by `magnitude` pixels times the direction, to the right unless said; whole pixels are exact.

    Args:
      images: see above.
      magnitude: in pixels; any.
      direction: down and to the right, for each unit of the magnitude.
      border: what comes in.
      crop: how many pixels are cut off at each side of the result. While no more than these are moved, all that is seen
        are pixels of the image, as if a camera had moved over a larger scene.
      interpolation: between pixels.
      grid: see above.

    Returns:
      [N, H - 2 crop, W - 2 crop, C].

    Raises:
      ValueError: see above, if the direction is not two numbers, and if the crop is negative or leaves nothing.
    """
    moved = per_example(magnitude, images, 2)[..., 0]
    height, width = images.shape[1:3]
    if len(direction) != 2:
        raise ValueError(f"a direction is two numbers, down and to the right, as in (0,1); given {direction}")
    if crop < 0 or 2 * crop >= min(height, width):
        raise ValueError(f"a crop of {crop} pixels at each side of {height} x {width} is negative or leaves nothing")
    down, right = grid.step if grid else (1.0, 1.0)
    rows = jnp.arange(crop, height - crop)[None, :, None] - direction[0] * moved / down
    columns = jnp.arange(crop, width - crop)[None, None, :] - direction[1] * moved / right
    return resample(images, (rows, columns), border=border, interpolation=interpolation)


def rotation(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    *,
    border: WarpBorder = "zeros",
    interpolation: Interpolation = "linear",
    grid: Grid | None = None,
) -> jax.Array:
    """The image turned counter-clockwise about its centre by `magnitude` degrees; any.

    Multiples of 90 are exact: always half a turn, and a quarter if height and width are both even or both odd.
    """
    cosine, sine = cosine_and_sine(per_example(magnitude, images, 2)[..., 0])
    grid = grid or pixel_grid(images.shape[1:3])
    down, right = places(images.shape[1:3], grid)
    turned = (cosine * down + sine * right, cosine * right - sine * down)
    return resample_at(images, turned, grid, border, interpolation)


def scale(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    *,
    border: WarpBorder = "zeros",
    interpolation: Interpolation = "linear",
    grid: Grid | None = None,
) -> jax.Array:
    """The image made 2 ** `magnitude` times as large about its centre: in octaves; any, -1 halves and 1 doubles it."""
    factor = jnp.exp2(-per_example(magnitude, images, 2)[..., 0])
    grid = grid or pixel_grid(images.shape[1:3])
    down, right = places(images.shape[1:3], grid)
    return resample_at(images, (factor * down, factor * right), grid, border, interpolation)


def shear(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    *,
    border: WarpBorder = "zeros",
    interpolation: Interpolation = "linear",
    grid: Grid | None = None,
) -> jax.Array:
    """Each row moved to the right by `magnitude` columns for each row that it lies above the centre; any.

    A positive magnitude slants as italics do.
    """
    slope = per_example(magnitude, images, 2)[..., 0]
    grid = grid or pixel_grid(images.shape[1:3])
    down, right = places(images.shape[1:3], grid)
    return resample_at(images, (down, right + slope * down), grid, border, interpolation)


def reflection(
    images: jax.Array, magnitude: jax.typing.ArrayLike, *, axis: Axis = "vertical", grid: Grid | None = None
) -> jax.Array:
    """(1 - `magnitude`) of the image plus `magnitude` of its mirror image; in [0, 1], and exact at 1.

    Between 0 and 1 one dissolves into the other, for there is no path of rigid motions in the plane.

    Args:
      images: see above.
      magnitude: the mirror image's share.
      axis: the mirror's, through the centre: `vertical` swaps left and right, `horizontal` above and below.
      grid: see above.

    Raises:
      ValueError: see above, and for another axis.
    """
    share = per_example(magnitude, images, 2)
    if grid is None:
        mirrored = jnp.flip(images, 2 if _is_vertical(axis) else 1)
    else:
        down, right = places(images.shape[1:3], grid)
        across = (down, -right) if _is_vertical(axis) else (-down, right)
        mirrored = resample_at(images, across, grid, "zeros", "linear")
    return ((1 - share) * images + share * mirrored).astype(images.dtype)


def perspective(
    images: jax.Array,
    magnitude: jax.typing.ArrayLike,
    *,
    axis: Axis = "vertical",
    distance: float = 2.0,
    border: WarpBorder = "zeros",
    interpolation: Interpolation = "linear",
    grid: Grid | None = None,
) -> jax.Array:
    """The image as a flat picture turned by `magnitude` degrees about an axis through its centre, seen by a camera.

    A point (u, v) of the picture, u across the axis, is seen at (u cos t, v) / (1 + u sin t / d), d being how far the
    camera is. At positive magnitudes the right half, or the lower, turns away. At 0 it fills the image.

    Args:
      images: see above.
      magnitude: in degrees, in [-60, 60].
      axis: about which it turns.
      distance: of the camera, in lengths of the longer side of the image; 1 at least.
      border: what is seen beyond the picture.
      interpolation: between pixels.
      grid: see above.

    Raises:
      ValueError: see above, for another axis, and for a camera that is too near.
    """
    if distance < 1:
        raise ValueError(f"the camera has to be 1 length of the image away at least; given {distance}")
    cosine, sine = cosine_and_sine(per_example(magnitude, images, 2)[..., 0])
    grid = grid or pixel_grid(images.shape[1:3])
    down, right = places(images.shape[1:3], grid)
    across, level = (right, down) if _is_vertical(axis) else (down, right)
    depth = sine / (distance * max(grid.extent))
    u = across / (cosine - across * depth)
    v = level * (1 + u * depth)
    return resample_at(images, (v, u) if _is_vertical(axis) else (u, v), grid, border, interpolation)


def cosine_and_sine(degrees: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of angles in degrees, exact for multiples of 90."""
    quarters = jax.lax.stop_gradient(jnp.round(degrees / 90))
    rest = jnp.deg2rad(degrees - 90 * quarters)
    cosine, sine = jnp.cos(rest), jnp.sin(rest)
    turns = quarters.astype(jnp.int32) % 4
    whole_cosine, whole_sine = jnp.array([1, 0, -1, 0])[turns], jnp.array([0, 1, 0, -1])[turns]
    return whole_cosine * cosine - whole_sine * sine, whole_sine * cosine + whole_cosine * sine


def _is_vertical(axis: Axis) -> bool:
    if axis not in get_args(Axis):
        raise ValueError(f"unknown axis {axis!r}; there are: {', '.join(get_args(Axis))}")
    return axis == "vertical"
