"""Transformed images and what the stages make of them."""

import jax
import numpy as np
import pytest

from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.analysis.transformed import numbered, transformed, transformed_outputs
from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables

IMAGES = np.random.default_rng(0).integers(0, 200, (4, 5, 5, 1)).astype(np.uint8)
NETWORK = Network((Stage("head", Dense(2)),))
SUBJECT = Subject(NETWORK, drawn_variables(NETWORK, (1, 5, 5, 1)), (100.0,), (50.0,), 0.0, 200.0)
KEY = jax.random.key(3)


def test_each_stage_sees_the_transformed_image() -> None:
    found = transformed_outputs(SUBJECT, IMAGES, numbered(IMAGES), np.float32(2), None, "translation")
    pixels = np.roll(IMAGES.astype(np.float64), 2, axis=2)
    expected = (pixels - 100) / 50
    dense = SUBJECT.variables["params"]["head"]
    np.testing.assert_allclose(found["input"], expected, rtol=1e-6)
    np.testing.assert_allclose(found["head"], expected.reshape(4, -1) @ dense["kernel"] + dense["bias"], rtol=1e-4)


def test_magnitude_zero_is_the_image_itself() -> None:
    found = transformed_outputs(SUBJECT, IMAGES, numbered(IMAGES), np.float32(0), None, "translation")
    expected = stage_outputs(SUBJECT, IMAGES)
    assert set(found) == set(SUBJECT.stages)
    np.testing.assert_allclose(found["input"], expected["input"], rtol=1e-6)
    np.testing.assert_allclose(found["head"], expected["head"], rtol=1e-5)


def test_an_image_draws_the_same_in_whichever_batch() -> None:
    numbers = numbered(IMAGES)
    whole = np.asarray(transformed(SUBJECT, jax.numpy.asarray(IMAGES), numbers, np.float32(0.3), KEY, "noise"))
    turned = transformed(SUBJECT, jax.numpy.asarray(IMAGES[::-1]), numbers[::-1], np.float32(0.3), KEY, "noise")
    np.testing.assert_array_equal(np.asarray(turned)[::-1], whole)
    assert not np.array_equal(whole[0] - IMAGES[0], whole[1] - IMAGES[1])
    assert whole.min() == 0 and whole.max() == 200


@pytest.mark.parametrize(("name", "line"), [("spin", "unknown transformation 'spin'.*rotation"), ("noise", "a key")])
def test_bad_requests_are_a_clear_line(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        transformed_outputs(SUBJECT, IMAGES, numbered(IMAGES), np.float32(0), None, name)


def test_magnitudes_and_weights_share_one_program() -> None:
    before = transformed_outputs._cache_size()
    doubled = Subject(NETWORK, jax.tree.map(lambda leaf: 2 * leaf, SUBJECT.variables), (100.0,), (50.0,), 0.0, 200.0)
    for subject in (SUBJECT, doubled):
        for magnitude in (0, 10, -7.5):
            transformed_outputs(subject, IMAGES, numbered(IMAGES), np.float32(magnitude), None, "rotation")
    assert transformed_outputs._cache_size() == before + 1
