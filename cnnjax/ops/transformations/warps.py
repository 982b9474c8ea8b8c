"""Resampling at any coordinates, differentiable in them, and exact where they are whole numbers."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from cnnjax.ops.transformations.magnitudes import working_dtype

WarpBorder = Literal["circular", "zeros", "edge"]
Interpolation = Literal["linear", "cubic"]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the elements of an array lie in an image, for each spatial dimension: those of features, to be moved as the
    image is.

    Attributes:
      extent: the image's size.
      first: where the first element lies, in pixels from the image's centre.
      step: from one element to the next, in pixels.
    """

    extent: tuple[int, ...]
    first: tuple[float, ...]
    step: tuple[float, ...]


def resample(
    x: jax.Array,
    coordinates: Sequence[jax.Array],
    *,
    border: WarpBorder = "zeros",
    interpolation: Interpolation = "linear",
) -> jax.Array:
    """The values of x between its grid points.

    Whole coordinates give the element there itself, without rounding. At them linear interpolation has a kink, and its
    derivative by the coordinate is the mean of those at both sides: the central difference, as for cubic interpolation.

    Args:
      x: [N, *spatial, C], floating point and finite.
      coordinates: for each spatial dimension where to look, counted in elements from the first one's middle; of any
        shapes that together broadcast to [N, *out].
      border: beyond the grid lie its other side (`circular`), `zeros`, or its nearest element (`edge`).
      interpolation: `linear`, or `cubic`: the cubic convolution of Keys 1981 with a = -1/2 (Catmull-Rom),
        smoother in the coordinates, but at a sharp step it overshoots, also beyond legal pixels.

    Returns:
      [N, *out, C] in the dtype of x.

    Raises:
      ValueError: for another border, interpolation, dtype or number of coordinates.
    """
    if len(coordinates) != x.ndim - 2:
        raise ValueError(f"{x.ndim - 2} coordinates are needed to look into shape {x.shape}; given {len(coordinates)}")
    if border not in get_args(WarpBorder):
        raise ValueError(f"unknown border {border!r}; there are: {', '.join(get_args(WarpBorder))}")
    if interpolation not in get_args(Interpolation):
        raise ValueError(f"unknown interpolation {interpolation!r}; there are: {', '.join(get_args(Interpolation))}")
    dtype = working_dtype(x)
    examples, *spatial, channels = x.shape
    rank = max(c.ndim for c in coordinates)
    out = jnp.broadcast_shapes((examples, *[1] * (rank - 1)), *(c.shape for c in coordinates))
    flat = x.reshape(examples, -1, channels)
    steps = [math.prod(spatial[axis + 1 :]) for axis in range(len(spatial))]
    along = [
        _taps(c.astype(dtype), size, step, border, interpolation)
        for c, size, step in zip(coordinates, spatial, steps, strict=True)
    ]
    look = jax.vmap(lambda elements, places: elements.at[places].get(mode="promise_in_bounds"))
    total = jnp.zeros((*out, channels), dtype)
    for taps in itertools.product(*along):
        places = functools.reduce(jnp.add, [place for place, _ in taps])
        weight = functools.reduce(jnp.multiply, [weight for _, weight in taps])
        total += weight[..., None] * look(flat, jnp.broadcast_to(places, out))
    return total.astype(x.dtype)


def hat(distance: jax.Array) -> jax.Array:
    """Linear interpolation's weight of a grid point: max(0, 1 - |distance|), in [0, 1].

    Where it has kinks its derivative is the mean of those at both sides.
    """
    # Not `abs`, whose derivative at 0 is 1 in JAX; `maximum` shares it between ties.
    return jnp.maximum(1 - jnp.maximum(distance, -distance), 0)


def pixel_grid(spatial: Sequence[int]) -> Grid:
    """The image's own, of these sizes."""
    return Grid(tuple(spatial), tuple(-(size - 1) / 2 for size in spatial), (1.0,) * len(spatial))


def places(spatial: Sequence[int], grid: Grid) -> list[jax.Array]:
    """Where elements lie, in pixels from the image's centre, for each dimension: [1, ..., size, ..., 1]."""
    along = zip(spatial, grid.first, grid.step, strict=True)
    return _crossed([first + step * jnp.arange(size) for size, first, step in along])


def resample_at(
    x: jax.Array, looked_at: Sequence[jax.Array], grid: Grid, border: WarpBorder, interpolation: Interpolation
) -> jax.Array:
    """As `resample`, with coordinates in pixels from the image's centre, of an array that lies on the grid."""
    spatial = x.shape[1:-1]
    elements = _crossed([jnp.arange(size) for size in spatial])
    # By how far each looks away from its own place: whatever the step, an element that stays has no rounding.
    coordinates = [
        element + (target - place) / step
        for element, target, place, step in zip(elements, looked_at, places(spatial, grid), grid.step, strict=True)
    ]
    return resample(x, coordinates, border=border, interpolation=interpolation)


def _crossed(along: Sequence[jax.Array]) -> list[jax.Array]:
    return [axis[None] for axis in jnp.meshgrid(*along, indexing="ij", sparse=True)]


def _taps(
    coordinate: jax.Array, size: int, step: int, border: WarpBorder, interpolation: Interpolation
) -> list[tuple[jax.Array, jax.Array]]:
    """The grid points that count along one dimension: where each lies in memory, and its weight."""
    if border != "circular":
        # Far outside all is the same, and an integer is sure to hold it.
        coordinate = jnp.clip(coordinate, -3, size + 2)
    linear = interpolation == "linear"
    # Three points, not two, for the linear: at a whole coordinate its derivative needs the neighbours at both sides.
    base = jax.lax.stop_gradient(jnp.round(coordinate) if linear else jnp.floor(coordinate))
    taps = []
    for offset in (-1, 0, 1) if linear else (-1, 0, 1, 2):
        distance = coordinate - (base + offset)
        weight = hat(distance) if linear else _keys(distance, near=offset in (0, 1))
        place = base.astype(jnp.int32) + offset
        if border == "zeros":
            weight = weight * ((place >= 0) & (place < size))
        inside = place % size if border == "circular" else jnp.clip(place, 0, size - 1)
        taps.append((inside * step, weight))
    return taps


def _keys(distance: jax.Array, near: bool) -> jax.Array:
    """The kernel of Keys 1981, equation 4 with a = -1/2, at distances of up to 1 or, if not near, from 1 to 2."""
    s = jnp.abs(distance)
    return (1.5 * s - 2.5) * s * s + 1 if near else ((-0.5 * s + 2.5) * s - 4) * s + 2
