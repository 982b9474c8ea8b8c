"""What is asked for is checked, and pictures come one batch after another."""

from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.analysis.subject import Subject
from cnnjax.analysis.units import checked_classes, checked_units, per_image, stage_shape
from cnnjax.models.convnet import convnet
from tests.variables import drawn_variables

IMAGES = np.arange(5 * 6 * 4 * 2, dtype=np.uint8).reshape(5, 6, 4, 2)
MODEL = convnet(3, width=2, depth=1, kernel_size=3)
SUBJECT = Subject(MODEL, drawn_variables(MODEL, IMAGES.shape), (100.0, 90.0), (50.0, 60.0))


@pytest.mark.parametrize(("stage", "shape"), [("input", (6, 4, 2)), ("stage1", (3, 2, 2)), ("head", (3,))])
def test_shape_of_a_stage_and_its_units(stage: str, shape: tuple[int, ...]) -> None:
    assert stage_shape(SUBJECT, stage, (6, 4, 2)) == shape
    units = list(range(shape[-1]))
    np.testing.assert_array_equal(checked_units(SUBJECT, stage, (6, 4, 2), units), units)


@pytest.mark.parametrize("units", [[], [2], [-1], [0.5], 1])
def test_units_that_the_stage_does_not_have(units: Any) -> None:
    with pytest.raises(ValueError, match="units of 'stage1' are whole numbers from 0 to 1"):
        checked_units(SUBJECT, "stage1", (6, 4, 2), units)


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 1, 2, 3, 0], [0, 1, -1, 0, 0], [0.0] * 5])
def test_classes_that_the_network_does_not_have(classes: Any) -> None:
    with pytest.raises(ValueError, match="classes are whole numbers from 0 to 2, one for each of the 5 images"):
        checked_classes(SUBJECT, IMAGES, classes)


def test_classes_that_it_has() -> None:
    found = checked_classes(SUBJECT, IMAGES, [2, 0, 1, 1, 0])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [2, 0, 1, 1, 0])


def test_unknown_stage_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="no stage 'stage2'; there are: input, stage1, head"):
        stage_shape(SUBJECT, "stage2", (6, 4, 2))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_every_image_once_and_in_order(batch_size: int) -> None:
    sizes = set()

    def function(images: jax.Array, numbers: jax.Array) -> dict[str, jax.Array]:
        sizes.add(len(images))
        return {"first": images[:, 0, 0, 0], "sum": images.sum((1, 2, 3)) + numbers}

    found = per_image(function, [IMAGES, np.arange(5)], batch_size)
    np.testing.assert_array_equal(found["first"], IMAGES[:, 0, 0, 0])
    np.testing.assert_array_equal(found["sum"], IMAGES.sum((1, 2, 3)) + np.arange(5))
    assert sizes == {min(batch_size, 5)}


def test_no_images() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        per_image(lambda images: images, [IMAGES[:0]], 4)
