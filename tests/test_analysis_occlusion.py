"""The occlusion map of a linear network, by hand."""

import numpy as np
import pytest
from scipy.special import softmax

from cnnjax.analysis.occlusion import occlusion
from cnnjax.analysis.subject import Subject
from cnnjax.models.logistic import logistic
from tests.variables import drawn_variables

RNG = np.random.default_rng(0)
MEAN, STD = (100.0, 120.0), (50.0, 20.0)


def subject_on(images: np.ndarray) -> Subject:
    model = logistic(3)
    return Subject(model, drawn_variables(model, images.shape), MEAN, STD)


@pytest.mark.parametrize(("spatial", "size", "stride"), [((9,), 3, 2), ((6, 5), 2, 1), ((6, 5), 3, 3)])
def test_linear_network(spatial: tuple[int, ...], size: int, stride: int) -> None:
    images = RNG.integers(0, 256, (3, *spatial, 2)).astype(np.uint8)
    classes = [2, 0, 1]
    subject = subject_on(images)
    (dense,) = subject.variables["params"].values()
    found = occlusion(subject, images, classes, size=size, stride=stride, batch_size=2)
    positions = tuple(len(range(0, length - size + 1, stride)) for length in spatial)
    assert found.shape == (3, *positions)
    for position in np.ndindex(positions):
        hidden = images.astype(np.float64)
        hidden[(slice(None), *(slice(stride * p, stride * p + size) for p in position))] = MEAN
        logits = ((hidden - MEAN) / STD).reshape(3, -1) @ dense["kernel"] + dense["bias"]
        expected = softmax(logits, axis=-1)[np.arange(3), classes]
        np.testing.assert_allclose(found[(slice(None), *position)], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("size", "stride"), [(0, 1), (6, 1), (2, 0)])
def test_squares_that_do_not_fit(size: int, stride: int) -> None:
    images = np.zeros((1, 6, 5, 2), np.float32)
    with pytest.raises(ValueError, match=r"between 1 and 5 for images of \(6, 5\)"):
        occlusion(subject_on(images), images, [0], size=size, stride=stride)


def test_wrong_class() -> None:
    images = np.zeros((1, 6, 5, 2), np.float32)
    with pytest.raises(ValueError, match="classes are whole numbers from 0 to 2"):
        occlusion(subject_on(images), images, [3], size=2)
