"""The images, and the patches of them, that drive each unit most (Zeiler and Fergus 2014, figure 2)."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.streaming import batches
from cnnjax.analysis.subject import Subject, check_stages, stage_outputs
from cnnjax.analysis.units import stage_shape
from cnnjax.models.network import run_stages
from cnnjax.models.receptive_field import Interval, intervals, on_grid, receptive_field


@dataclasses.dataclass(frozen=True)
class Strongest:
    """For each unit of a stage the images that drive it most, the strongest first.

    A unit is a channel of a stage with positions, or a value of one without. Each image counts once, at the position
    where it drives the unit most, so that the images of a unit differ.

    Attributes:
      stage: the stage.
      values: float32 [units, k], the unit's output there.
      images: int64 [units, k], the images' places in the array that was searched.
      positions: int64 [units, k, d], on the stage's grid of d dimensions; d is 0 for a stage without positions.
    """

    stage: str
    values: np.ndarray
    images: np.ndarray
    positions: np.ndarray

    def of_units(self, count: int) -> "Strongest":
        """What drives the first so many units."""
        return Strongest(self.stage, self.values[:count], self.images[:count], self.positions[:count])


def strongest(
    subject: Subject, images: np.ndarray, stages: Sequence[str], *, k: int = 9, batch_size: int = 256
) -> dict[str, Strongest]:
    """For each unit of each stage the k images that drive it most, and where: argmax over x and p of phi(x)[p, unit].

    The images stream, in one compilation for all stages; what is kept does not grow with their number. Of equal values
    the earlier image is the stronger, and of equal positions in an image the first.

    Args:
      subject: the network.
      images: [N, *spatial, C] in their own units.
      stages: names; `input` is one.
      k: images to keep for each unit; all N where they are fewer.
      batch_size: images at a time.

    Returns:
      By stage; see `Strongest`.

    Raises:
      ValueError: for a stage that is not there, no image, or k below 1.
    """
    stages = tuple(stages)
    check_stages(subject, stages)
    if k < 1:
        raise ValueError(f"k, the images kept for each unit, is at least 1; given {k}")
    grids = {stage: stage_shape(subject, stage, images.shape[1:])[:-1] for stage in stages}
    kept: dict[str, tuple[np.ndarray, ...]] = {}
    for first, (mask, batch) in enumerate(batches([images], batch_size)):
        numbers = first * batch_size + np.flatnonzero(mask)
        found = _strongest_positions(subject, jnp.asarray(batch), stages=stages)
        for stage in stages:
            values, places = (np.asarray(array)[mask].T for array in found[stage])
            new = (values, places, np.broadcast_to(numbers, values.shape))
            kept[stage] = _largest(_joined(kept[stage], new) if stage in kept else new, k)
    return {
        stage: Strongest(stage, values, numbers, _on_grid(places, grids[stage]))
        for stage, (values, places, numbers) in kept.items()
    }


@functools.partial(jax.jit, static_argnames="stages")
def _strongest_positions(
    subject: Subject, images: jax.Array, *, stages: tuple[str, ...]
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """For each stage the units' greatest values and their places on the grid, counted in rows, both [N, units]."""
    outputs = stage_outputs(subject, images)
    flat = {stage: outputs[stage].reshape(len(images), -1, outputs[stage].shape[-1]) for stage in stages}
    return {stage: (values.max(axis=1), values.argmax(axis=1)) for stage, values in flat.items()}


def _on_grid(places: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Places counted in rows [...] as positions [..., d]."""
    if not grid:
        return np.zeros((*places.shape, 0), np.int64)
    return np.stack(np.unravel_index(places, grid), axis=-1)


def _joined(kept: tuple[np.ndarray, ...], new: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(np.concatenate(pair, axis=1) for pair in zip(kept, new, strict=True))


def _largest(arrays: tuple[np.ndarray, ...], k: int) -> tuple[np.ndarray, ...]:
    """The k columns of each row [units, columns] in which the first array is greatest."""
    order = np.argsort(-arrays[0], axis=1, kind="stable")[:, :k]
    return tuple(np.take_along_axis(array, order, axis=1) for array in arrays)


def field_of(subject: Subject, stage: str, image_shape: Sequence[int]) -> tuple[Interval, ...] | None:
    """What a position of a stage sees of an image [*spatial, C], for each dimension; None where it sees all of it.

    Raises:
      ValueError: for a stage that is not there.
      NotImplementedError: for a layer whose receptive field is not known.
    """
    check_stages(subject, (stage,))
    x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    if stage not in subject.model.stage_names:
        return intervals(on_grid(x))
    run = functools.partial(run_stages, subject.model, until=stage)
    return receptive_field(run, subject.variables, x)


def patch_at(
    image: np.ndarray, field: tuple[Interval, ...] | None, position: Sequence[int], fill: Sequence[float]
) -> np.ndarray:
    """The window of an image that a position sees.

    Args:
      image: [*spatial, C].
      field: of the position's stage, see `field_of`; None for the whole image.
      position: on the stage's grid.
      fill: what stands, for each channel, where the window hangs over the image's border.

    Returns:
      float32 [*sizes, C] in the image's units.

    Raises:
      ValueError: if the position has not as many numbers as the field has dimensions.
    """
    if field is None:
        return image.astype(np.float32)
    if len(position) != len(field):
        raise ValueError(f"a field of {len(field)} dimensions needs a position of as many; given {tuple(position)}")
    patch = np.empty((*(seen.size for seen in field), image.shape[-1]), np.float32)
    patch[...] = fill
    inside, source = [], []
    for seen, p, size in zip(field, position, image.shape, strict=False):
        start = seen.start + int(p) * seen.stride
        low, high = max(start, 0), max(min(start + seen.size, size), max(start, 0))
        inside.append(slice(low - start, high - start))
        source.append(slice(low, high))
    patch[tuple(inside)] = image[tuple(source)]
    return patch


def strongest_patches(subject: Subject, images: np.ndarray, found: Strongest) -> np.ndarray:
    """The patches that drive each unit most, float32 [units, k, *sizes, C]; whole images where a position sees all.

    Beyond the border stands the data's mean, which is what padding by zeros shows the network; so it does where the
    network's own border is another one.

    Args:
      subject: the network.
      images: [N, *spatial, C], those that were searched.
      found: from `strongest`.

    Raises:
      ValueError, NotImplementedError: as in `field_of`.
    """
    field = field_of(subject, found.stage, images.shape[1:])
    rows = zip(found.images, found.positions, strict=True)
    return np.stack(
        [np.stack([patch_at(images[i], field, p, subject.mean) for i, p in zip(*row, strict=True)]) for row in rows]
    )
