"""Where the positions of each stage lie in the image."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from cnnjax.analysis.subject import INPUT, Subject
from cnnjax.models.receptive_field import EVERYTHING, Fields, Interval, fields_behind, intervals, on_grid
from cnnjax.models.tracing import StageTrace, trace_network
from cnnjax.ops.transformations.warps import Grid, pixel_grid

Grids = tuple[tuple[str, Grid], ...]
"""By stage, as an argument of a compiled function that decides on its program."""


def stage_grids(subject: Subject, image_shape: Sequence[int]) -> Mapping[str, Grid]:
    """The grid of each stage that has as many spatial dimensions as the images [*spatial, C].

    A position lies in the middle of its receptive field, and the next one a stride away. Where the field is not known,
    or is the whole image, the positions are taken to divide the image evenly.
    """
    *spatial, _ = image_shape
    grids = {INPUT: pixel_grid(spatial)}
    fields = on_grid(jax.ShapeDtypeStruct((1, *image_shape), np.float32))
    for stage in trace_network(subject.model, tuple(image_shape)).stages:
        fields = _behind(stage, fields)
        positions = stage.output.shape[1:-1]
        if len(positions) == len(spatial):
            grids[stage.name] = _grid(positions, spatial, intervals(fields))
    return grids


def _behind(stage: StageTrace, fields: Fields) -> Fields:
    try:
        return fields_behind(stage.program, fields)
    except NotImplementedError:
        return EVERYTHING


def _grid(positions: Sequence[int], spatial: Sequence[int], seen: tuple[Interval, ...] | None) -> Grid:
    if seen is None or len(seen) != len(spatial):
        step = tuple(size / count for size, count in zip(spatial, positions, strict=True))
        first = tuple(-(count - 1) / 2 * apart for count, apart in zip(positions, step, strict=True))
        return Grid(tuple(spatial), first, step)
    first = tuple(field.start + (field.size - size) / 2 for field, size in zip(seen, spatial, strict=True))
    return Grid(tuple(spatial), first, tuple(float(field.stride) for field in seen))
