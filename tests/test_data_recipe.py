"""The squares of the ImageNet recipe, against NumPy's slices and Pillow's resizing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest

from cnnjax.data.recipe import evaluation_square, random_box, training_square

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
PICTURE = PIL.Image.fromarray(PIXELS)
BILINEAR = PIL.Image.Resampling.BILINEAR


class Draws:
    """A generator whose draws are known: shares of the ranges that are asked for."""

    def __init__(self, *shares: float) -> None:
        self._shares: Iterator[float] = iter(shares)

    def random_sample(self) -> float:
        return next(self._shares)

    def uniform(self, low: float, high: float) -> float:
        return low + next(self._shares) * (high - low)

    def randint(self, end: int) -> int:
        return int(next(self._shares) * end)


def boxes(width: int, height: int) -> np.ndarray:
    """[2000, 4]."""
    generator = np.random.RandomState(0)
    return np.array([random_box(width, height, generator) for _ in range(2000)])


def test_box_has_the_area_and_the_aspect_that_are_drawn() -> None:
    # A quarter of 40 x 40 is 20 x 20; the aspect halfway between 3/4 and 4/3, in logarithms, is 1.
    quarter = (0.25 - 0.08) / 0.92
    draws: Any = Draws(quarter, 0.5, 3.5 / 21, 0.99)
    assert random_box(40, 40, draws) == (3, 20, 23, 40)


def test_draws_that_do_not_fit_are_drawn_again() -> None:
    whole, widest = (1.0, 1.0), (0.0, 0.5)
    draws: Any = Draws(*whole, *widest, 0, 0)
    side = round(40 * 0.08**0.5)
    assert random_box(40, 40, draws) == (0, 0, side, side)


def test_boxes_lie_everywhere_and_have_every_size() -> None:
    left, top, right, bottom = boxes(400, 400).T
    assert left.min() == top.min() == 0
    assert right.max() == bottom.max() == 400
    area, aspect = (right - left) * (bottom - top) / 160_000, (right - left) / (bottom - top)
    assert area.min() == pytest.approx(0.08, abs=0.005)
    assert area.max() > 0.95
    assert aspect.min() == pytest.approx(3 / 4, abs=0.02)
    assert aspect.max() == pytest.approx(4 / 3, abs=0.02)
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.02)
    assert ((left + right) / 2).mean() == pytest.approx(200, abs=5)


@pytest.mark.parametrize(
    ("size", "box"), [((1000, 1), (499, 0, 500, 1)), ((3, 1000), (0, 498, 3, 502)), ((1, 1), (0, 0, 1, 1))]
)
def test_image_that_no_box_fits_into_gives_its_middle(size: tuple[int, int], box: tuple[int, ...]) -> None:
    assert random_box(*size, np.random.RandomState(0)) == box


@pytest.mark.parametrize(("flip", "step"), [(0.49, -1), (0.5, 1)])
def test_training_square_of_its_own_size_is_a_slice(flip: float, step: int) -> None:
    quarter_of_2000 = (500 / 2000 - 0.08) / 0.92
    area: Any = Draws(quarter_of_2000, 0.5, 3 / 29, 7 / 19, flip)
    square = np.asarray(training_square(PICTURE, 22, area))
    assert np.array_equal(square, PIXELS[7:29, 3:25][:, ::step])


def test_training_square_is_resized_by_pillow() -> None:
    generator = np.random.RandomState(4)
    box = random_box(50, 40, np.random.RandomState(4))
    square = training_square(PICTURE, 16, generator)
    expected = np.asarray(PICTURE.crop(box).resize((16, 16), BILINEAR))
    assert any(np.array_equal(square, image) for image in (expected, expected[:, ::-1]))


def test_half_of_the_training_squares_are_mirrored() -> None:
    ramp = PIL.Image.fromarray(np.tile(np.arange(40, dtype=np.uint8), (40, 1)))
    generator = np.random.RandomState(0)
    squares = [np.asarray(training_square(ramp, 8, generator)).astype(int) for _ in range(400)]
    mirrored = [square[0, 0] > square[0, -1] for square in squares]
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.08)  # three standard deviations


def test_evaluation_square_is_the_middle() -> None:
    # 256/224 of 35 are 40, the shorter side: nothing is resized.
    assert np.array_equal(evaluation_square(PICTURE, 35), PIXELS[2:37, 8:43])


@pytest.mark.parametrize("size", [(50, 40), (40, 50)])
def test_shorter_side_is_resized_first(size: tuple[int, int]) -> None:
    picture = PICTURE.resize(size)
    resized = np.asarray(picture.resize((20, 16) if size == (50, 40) else (16, 20), BILINEAR))
    height, width = resized.shape[:2]
    top, left = (height - 14) // 2, (width - 14) // 2
    assert np.array_equal(evaluation_square(picture, 14), resized[top : top + 14, left : left + 14])
