"""All transformations by name, with one interface, their units and ranges."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import jax
import numpy as np

from cnnjax.ops.transformations.corruptions import clutter, noise, occlusion
from cnnjax.ops.transformations.elastic import elastic
from cnnjax.ops.transformations.geometric import perspective, reflection, rotation, scale, shear, translation
from cnnjax.ops.transformations.neighbourhood import blur, stroke_weight
from cnnjax.ops.transformations.photometric import brightness, contrast, gamma
from cnnjax.ops.transformations.signals import gain, shift, signal_noise, stretch

Apply = Callable[[jax.Array, jax.typing.ArrayLike, jax.Array | None], jax.Array]


class Function(Protocol):
    """A transformation of images [N, *spatial, C] whose pixels lie between `low` and `high`; see `Transformation`."""

    def __call__(
        self,
        images: jax.Array,
        magnitude: jax.typing.ArrayLike,
        key: jax.Array | None,
        low: float,
        high: float,
        **settings: Any,
    ) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class Transformation:
    """One entry of `TRANSFORMATIONS`.

    Attributes:
      name: its key there.
      function: from images [N, *spatial, C] of floating point, a magnitude (a scalar or [N]), a key (one or [N]; unread
        if not `random`) and the least and greatest legal pixel (unread where no pixel is made up) to changed images of
        the same shape and dtype. Magnitude 0 is the identity. Other settings are passed by name.
      unit: of the magnitude, in words for an axis.
      range: the least and greatest magnitude of a sweep; within what is legal.
      dimensions: how many spatial ones the images have: 2, or 1 for signals.
      random: whether it draws from the key.
      settings: the names of its other settings.
    """

    name: str
    function: Function
    unit: str
    range: tuple[float, float]
    dimensions: int
    random: bool
    settings: tuple[str, ...]


def transformation(name: str, *, low: float = 0.0, high: float = 255.0, **settings: Any) -> Apply:
    """The transformation with its settings filled in: (images, magnitude, key) -> images.

    Args:
      name: a key of `TRANSFORMATIONS`.
      low: the least legal pixel.
      high: the greatest.
      **settings: those that its function takes by name, such as `border`.

    Raises:
      ValueError: for a name or setting that there is not.
    """
    entry = find(name)
    if unknown := set(settings) - set(entry.settings):
        there_are = ", ".join(entry.settings) or "none"
        raise ValueError(f"transformation {name!r} has no setting {min(unknown)!r}; there are: {there_are}")

    def apply(images: jax.Array, magnitude: jax.typing.ArrayLike, key: jax.Array | None = None) -> jax.Array:
        return entry.function(images, magnitude, key, low, high, **settings)

    return apply


def default_magnitudes(name: str, count: int = 21) -> np.ndarray:
    """Magnitudes for a sweep, evenly spaced over the transformation's range: float32 [count].

    With an odd count 0 is among them, for a range starts at 0 or lies evenly about it.

    Raises:
      ValueError: for a name that there is not.
    """
    low, high = find(name).range
    return np.linspace(low, high, count).astype(np.float32)


def find(name: str) -> Transformation:
    """The entry of that name.

    Raises:
      ValueError: if there is none; it names those there are.
    """
    if name not in TRANSFORMATIONS:
        raise ValueError(f"unknown transformation {name!r}; there are: {', '.join(TRANSFORMATIONS)}")
    return TRANSFORMATIONS[name]


def _entry(
    transform: Callable[..., jax.Array], unit: str, range: tuple[float, float], dimensions: int = 2
) -> Transformation:
    parameters = inspect.signature(transform).parameters
    named = tuple(name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY)

    def function(
        images: jax.Array,
        magnitude: jax.typing.ArrayLike,
        key: jax.Array | None,
        low: float,
        high: float,
        **settings: Any,
    ) -> jax.Array:
        offered = {"key": key, "low": low, "high": high}
        return transform(images, magnitude, **{n: v for n, v in offered.items() if n in parameters}, **settings)

    return Transformation(transform.__name__, function, unit, range, dimensions, "key" in parameters, named)


TRANSFORMATIONS: Mapping[str, Transformation] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            _entry(translation, "pixels", (-10, 10)),
            _entry(rotation, "degrees", (-180, 180)),
            _entry(scale, "octaves", (-1, 1)),
            _entry(shear, "columns per row", (-1, 1)),
            _entry(reflection, "share of the mirror image", (0, 1)),
            _entry(perspective, "degrees", (-60, 60)),
            _entry(elastic, "pixels (standard deviation)", (0, 4)),
            _entry(stroke_weight, "pixels at each side", (-2, 2)),
            _entry(blur, "pixels (standard deviation)", (0, 3)),
            _entry(noise, "share of the pixel range (standard deviation)", (0, 0.5)),
            _entry(brightness, "share of the pixel range", (-0.5, 0.5)),
            _entry(contrast, "relative change", (-1, 1)),
            _entry(gamma, "octaves of the exponent", (-2, 2)),
            _entry(occlusion, "share of the image's sides", (0, 1)),
            _entry(clutter, "share of the pixel range", (0, 1)),
            _entry(shift, "samples", (-10, 10), 1),
            _entry(stretch, "octaves", (-1, 1), 1),
            _entry(gain, "decibels", (-12, 12), 1),
            _entry(signal_noise, "standard deviations of the signal", (0, 1), 1),
        )
    }
)
