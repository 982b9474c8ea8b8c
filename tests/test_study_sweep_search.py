"""The points of a search: how many, which, and the same ones again."""

import itertools

import numpy as np
import pytest

from cnnjax.study.sweep.search import grid, random, sobol
from cnnjax.study.sweep.spec import Choices, Dimension, Range

LR = Dimension("optim.lr", Range("log", False, 1e-4, 1.0))
WIDTH = Dimension("model.width", Choices(("8", "16", "32", "64")))
DEPTH = Dimension("model.depth", Range("linear", True, 1.0, 3.0))


def test_grid_is_every_value_with_every_other() -> None:
    points = grid([WIDTH, DEPTH])
    assert [(point["model.width"], point["model.depth"]) for point in points] == list(
        itertools.product(("8", "16", "32", "64"), (1, 2, 3))
    )


def test_grid_needs_values() -> None:
    with pytest.raises(ValueError, match=r"optim\.lr is a range: say how many of its values, as in log:1e-3:1:4"):
        grid([WIDTH, LR])


@pytest.mark.parametrize("search", [random, sobol])
def test_same_points_again_and_more_begin_with_them(search: type) -> None:
    points = search([LR, WIDTH, DEPTH], 20, 0)
    assert points == search([LR, WIDTH, DEPTH], 20, 0)
    assert len({tuple(point.values()) for point in points}) == 20
    assert search([LR, WIDTH, DEPTH], 7, 0) == points[:7]
    assert search([LR, WIDTH, DEPTH], 33, 0)[:20] == points
    assert search([LR, WIDTH, DEPTH], 20, 1) != points


@pytest.mark.parametrize("trials", [12, 100])
@pytest.mark.parametrize("search", [random, sobol])
def test_few_points_are_each_tried_once(search: type, trials: int) -> None:
    points = search([WIDTH, DEPTH], trials, 0)
    assert len(points) == 12
    assert {tuple(point.values()) for point in points} == {tuple(point.values()) for point in grid([WIDTH, DEPTH])}


def test_random_points_are_uniform_on_their_scales() -> None:
    points = random([LR, DEPTH], 2000, 0)
    logs = np.log10([point["optim.lr"] for point in points])
    # Uniform on [-4, 0]: mean -2, and a standard deviation of 4 / sqrt(12), of whose mean 5 are allowed.
    assert np.mean(logs) == pytest.approx(-2, abs=5 * 4 / np.sqrt(12 * 2000))
    assert logs.min() >= -4 and logs.max() <= 0
    counts = np.unique([point["model.depth"] for point in points], return_counts=True)[1]
    assert counts == pytest.approx([2000 / 3] * 3, abs=5 * np.sqrt(2000 * 2 / 9))


@pytest.mark.parametrize("trials", [8, 64])
def test_sobol_is_balanced(trials: int) -> None:
    """Each of the 2**k equal parts of every axis has as many of the points, and so have the quarters of a plane."""
    momentum = Dimension("optim.momentum", Range("linear", False, 0.0, 0.9))
    points = sobol([LR, momentum, WIDTH], trials, 0)
    shares = np.array([[np.log10(p["optim.lr"]) / 4 + 1, p["optim.momentum"] / 0.9] for p in points])
    parts = np.minimum(shares * trials, trials - 1).astype(int)
    assert [sorted(axis) for axis in parts.T] == [list(range(trials))] * 2
    assert np.unique(shares > 0.5, axis=0, return_counts=True)[1].tolist() == [trials // 4] * 4
    assert sorted(p["model.width"] for p in points) == sorted(["8", "16", "32", "64"] * (trials // 4))
