"""The strongest images and patches against a search by hand, and a planted patch that a matched filter finds."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.strongest import field_of, patch_at, strongest, strongest_patches
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.layers.activations import identity
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models.convnet import convnet
from cnnjax.models.network import Network, Stage
from cnnjax.models.receptive_field import Interval
from tests.variables import drawn_variables

RNG = np.random.default_rng(0)
STAGES = ("input", "stage1", "stage2", "head")


@pytest.mark.parametrize("spatial", [pytest.param((13,), marks=pytest.mark.slow), (9, 8)])
def test_search_by_hand(spatial: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, (7, *spatial, 2)).astype(np.uint8)
    model = convnet(3, width=2, depth=2, kernel_size=3)
    subject = Subject(model, drawn_variables(model, images.shape), (100.0, 120.0), (50.0, 60.0))
    found = strongest(subject, images, STAGES, k=3, batch_size=4)
    outputs = stage_outputs(subject, jnp.asarray(images))
    assert tuple(found) == STAGES
    for stage in STAGES:
        features = np.asarray(outputs[stage])
        greatest = features.reshape(7, -1, features.shape[-1]).max(axis=1)
        assert found[stage].stage == stage
        assert found[stage].positions.shape == (features.shape[-1], 3, features.ndim - 2)
        np.testing.assert_allclose(found[stage].values, np.sort(greatest, axis=0)[::-1][:3].T, rtol=1e-4, atol=1e-4)
        for unit in range(features.shape[-1]):
            assert len(set(found[stage].images[unit])) == 3
            for value, image, position in zip(
                found[stage].values[unit], found[stage].images[unit], found[stage].positions[unit], strict=True
            ):
                np.testing.assert_allclose(features[(image, *position, unit)], value, rtol=1e-4, atol=1e-4)


def test_fewer_images_than_wanted_and_equal_values() -> None:
    images = np.zeros((3, 5, 1), np.float32)
    images[:, 2:4] = 1
    model = Network((Stage("head", Dense(2)),))
    subject = Subject(model, drawn_variables(model, images.shape), (0.0,), (1.0,), 0.0, 1.0)
    found = strongest(subject, images, ["input"], k=9, batch_size=2)["input"]
    np.testing.assert_array_equal(found.images, [[0, 1, 2]])
    np.testing.assert_array_equal(found.positions, [[[2], [2], [2]]])


@pytest.mark.parametrize("spatial", [(20,), (11, 12)])
def test_matched_filter_finds_the_planted_patch(spatial: tuple[int, ...]) -> None:
    window = (3,) * len(spatial)
    # Whole numbers of mean 0, so that the filter's products are exact and no patch of small noise comes near.
    planted = RNG.permutation(np.arange(-4, 5) if len(spatial) == 2 else np.arange(-1, 2)).reshape(*window, 1)
    images = RNG.integers(-1, 2, (6, *spatial, 1)).astype(np.float32) / 4
    corner = (5, 7)[: len(spatial)]
    images[(4, *(slice(c, c + 3) for c in corner))] = planted
    conv = Conv(1, 3, strides=2, padding=1)
    model = Network((Stage("match", ConvBlock(conv, identity)), Stage("head", Dense(2))))
    variables = drawn_variables(model, images.shape)
    variables["params"]["match"]["conv"] = {"kernel": planted[..., None].astype(np.float32), "bias": np.zeros(1)}
    subject = Subject(model, variables, (0.0,), (1.0,), -4.0, 4.0)
    found = strongest(subject, images, ["match"], k=2)["match"]
    assert found.images[0, 0] == 4
    np.testing.assert_array_equal(found.positions[0, 0], [(c + 1) // 2 for c in corner])
    assert found.values[0, 0] == (planted**2).sum()
    patches = strongest_patches(subject, images, found)
    assert patches.shape == (1, 2, *window, 1)
    np.testing.assert_array_equal(patches[0, 0], planted)


@pytest.mark.parametrize("position", [(0, 0), (1, 2), (3, 1), (9, 9)])
def test_patch_hangs_over_the_border(position: tuple[int, int]) -> None:
    image = RNG.integers(0, 256, (6, 5, 2)).astype(np.uint8)
    field = (Interval(-2, 4, 2), Interval(-1, 3, 1))
    around = np.pad(image.astype(np.float32), ((30, 30), (30, 30), (0, 0)), constant_values=-1)
    around = np.where(around == -1, np.float32([7, 9]), around)
    row, column = 30 - 2 + 2 * position[0], 30 - 1 + position[1]
    found = patch_at(image, field, position, (7, 9))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, around[row : row + 4, column : column + 3])


def test_fields_of_stages() -> None:
    images = np.zeros((2, 9, 1), np.float32)
    model = convnet(2, width=2, depth=1, kernel_size=3)
    subject = Subject(model, drawn_variables(model, images.shape), (0.5,), (1.0,), 0.0, 1.0)
    assert field_of(subject, "input", (9, 1)) == (Interval(0, 1, 1),)
    assert field_of(subject, "stage1", (9, 1)) == (Interval(-1, 4, 2),)
    assert field_of(subject, "head", (9, 1)) is None
    found = strongest(subject, images, ["stage1", "head"], k=1)
    assert strongest_patches(subject, images, found["head"]).shape == (2, 1, 9, 1)
    patches = strongest_patches(subject, images, found["stage1"])
    assert found["stage1"].positions.max() == 0  # of a uniform image any position but the first would do as well
    np.testing.assert_array_equal(patches[0, 0, :, 0], [0.5, 0, 0, 0])


def test_bad_requests() -> None:
    images = np.zeros((2, 9, 1), np.float32)
    model = Network((Stage("head", Dense(2)),))
    subject = Subject(model, drawn_variables(model, images.shape), (0.0,), (1.0,))
    with pytest.raises(ValueError, match="no stage 'stage1'; there are: input, head"):
        strongest(subject, images, ["stage1"])
    with pytest.raises(ValueError, match="at least 1; given 0"):
        strongest(subject, images, ["head"], k=0)
    with pytest.raises(ValueError, match="no stage 'stage1'"):
        field_of(subject, "stage1", (9, 1))
    with pytest.raises(ValueError, match="a field of 1 dimensions"):
        patch_at(images[0], (Interval(0, 1, 1),), (1, 2), (0.0,))
