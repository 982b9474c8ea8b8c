"""All transformations by name, with one interface, their units and ranges."""

import ast
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
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
from cnnjax.ops.transformations.warps import Grid

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
      name: a key of `TRANSFORMATIONS`, perhaps with settings, as in `translation(border=zeros, direction=(1, 0))`.
      low: the least legal pixel.
      high: the greatest.
      **settings: those that its function takes by name, such as `border`; they win over those of the name.

    Raises:
      ValueError: for a name or setting that there is not.
    """
    entry = find(name)
    settings = {**settings_of(name), **settings}
    if unknown := set(settings) - set(entry.settings):
        there_are = ", ".join(entry.settings) or "none"
        raise ValueError(f"transformation {entry.name!r} has no setting {min(unknown)!r}; there are: {there_are}")

    def apply(images: jax.Array, magnitude: jax.typing.ArrayLike, key: jax.Array | None = None) -> jax.Array:
        return entry.function(images, magnitude, key, low, high, **settings)

    return apply


def act_on_grid(name: str, features: jax.Array, magnitude: jax.typing.ArrayLike, grid: Grid) -> jax.Array:
    """Features [N, *positions, C] that lie on a grid in an image, moved as the image would be.

    Args:
      name: as in `transformation`, of one that takes a `grid`: those of `geometric`, `shift` and `stretch`.
      features: of floating point.
      magnitude: for the image.
      grid: of the features.
    """
    return find(name).function(features, magnitude, None, 0.0, 0.0, **settings_of(name), grid=grid)


def default_magnitudes(name: str, count: int = 21) -> np.ndarray:
    """Magnitudes for a sweep, evenly spaced over the transformation's range: float32 [count].

    With an odd count 0 is among them, for a range starts at 0 or lies evenly about it.

    Raises:
      ValueError: for a name that there is not.
    """
    low, high = find(name).range
    return np.linspace(low, high, count).astype(np.float32)


def find(name: str) -> Transformation:
    """The entry of that name, which may have settings behind it as in `transformation`.

    Raises:
      ValueError: if there is none; it names those there are.
    """
    base = name.partition("(")[0].strip()
    if base not in TRANSFORMATIONS:
        raise ValueError(f"unknown transformation {base!r}; there are: {', '.join(TRANSFORMATIONS)}")
    return TRANSFORMATIONS[base]


def settings_of(name: str) -> dict[str, Any]:
    """The settings behind a name: `translation(border=zeros)` has {"border": "zeros"}. A value is a number, a tuple of
    them, or a word.

    Raises:
      ValueError: for what does not read so.
    """
    if name.isidentifier():
        return {}
    wrong = f"a transformation reads NAME or NAME(SETTING=VALUE, ...), as in translation(border=zeros), not {name!r}"
    try:
        call = ast.parse(name.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(wrong) from None
    if not isinstance(call, ast.Call) or call.args or any(part.arg is None for part in call.keywords):
        raise ValueError(wrong)
    try:
        return {
            str(part.arg): part.value.id if isinstance(part.value, ast.Name) else ast.literal_eval(part.value)
            for part in call.keywords
        }
    except ValueError:
        raise ValueError(wrong) from None


def check_transformation(name: str, shape: Sequence[int]) -> None:
    """Whether a transformation takes images [*spatial, C] and leaves them of their size; nothing is computed.

    Raises:
      ValueError: for a name or setting that there is not, a value that it does not take, images of other dimensions,
        and settings that make images of another size.
    """
    entry = find(name)
    if entry.dimensions != len(shape) - 1:
        raise ValueError(f"{entry.name} is for {entry.dimensions} spatial dimensions; the data have {len(shape) - 1}")
    images, key = jax.ShapeDtypeStruct((1, *shape), np.float32), jax.eval_shape(jax.random.key, 0)
    try:
        changed = jax.eval_shape(transformation(name), images, 0.0, key)
    except (TypeError, IndexError):
        raise ValueError(f"{name}: a setting is of a wrong type") from None
    if changed.shape != images.shape:
        raise ValueError(f"{name} makes {changed.shape[1:]} of images {images.shape[1:]}; they have to keep their size")


def _entry(
    transform: Callable[..., jax.Array], unit: str, range: tuple[float, float], dimensions: int = 2
) -> Transformation:
    parameters = inspect.signature(transform).parameters
    keywords = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]

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

    settings = tuple(name for name in keywords if name != "grid")  # which `act_on_grid` passes, and no request
    return Transformation(transform.__name__, function, unit, range, dimensions, "key" in parameters, settings)


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
