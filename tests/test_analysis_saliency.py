"""Saliency of linear networks is known; of others it is the difference quotient."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.saliency import gradient_times_input, saliency
from cnnjax.analysis.subject import Subject, logits_of
from cnnjax.models.convnet import convnet
from cnnjax.models.logistic import logistic
from tests.variables import drawn_variables

RNG = np.random.default_rng(0)
MEAN, STD = (100.0, 120.0), (50.0, 20.0)


@pytest.mark.parametrize("spatial", [(7,), (4, 5)])
def test_of_a_linear_network(spatial: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, (5, *spatial, 2)).astype(np.uint8)
    classes = [2, 0, 1, 1, 2]
    model = logistic(3)
    variables = drawn_variables(model, images.shape)
    subject = Subject(model, variables, MEAN, STD)
    (dense,) = variables["params"].values()
    weights = np.moveaxis(dense["kernel"].reshape(*spatial, 2, 3), -1, 0)[classes]
    found = saliency(subject, images, classes, batch_size=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.abs(weights / np.array(STD)).max(-1), rtol=1e-4, atol=1e-7)
    products = gradient_times_input(subject, images, classes, batch_size=2)
    np.testing.assert_allclose(products, (weights * (images - np.array(MEAN)) / STD).sum(-1), rtol=1e-4, atol=1e-5)
    logits = np.asarray(logits_of(subject, jnp.asarray(images)))[np.arange(5), classes]
    sums = products.reshape(5, -1).sum(axis=1)
    np.testing.assert_allclose(sums, logits - dense["bias"][classes], rtol=1e-4, atol=1e-4)


def test_of_a_smooth_network() -> None:
    images = RNG.uniform(0, 255, (2, 6, 6, 1)).astype(np.float32)
    model = convnet(3, width=2, depth=1, kernel_size=3, act="tanh", pool="average")
    subject = Subject(model, drawn_variables(model, images.shape), (120.0,), (60.0,))
    found = saliency(subject, images, [0, 2])
    for pixel in [(0, 0), (3, 2), (5, 4)]:
        moved = np.repeat(images, 2, axis=0)
        moved[(slice(None), *pixel, 0)] += np.float32([2, -2, 2, -2])
        logits = np.asarray(logits_of(subject, jnp.asarray(moved)), np.float64)
        slopes = [(logits[0, 0] - logits[1, 0]) / 4, (logits[2, 2] - logits[3, 2]) / 4]
        np.testing.assert_allclose(found[(slice(None), *pixel)], np.abs(slopes), rtol=2e-2, atol=2e-6)


def test_wrong_class() -> None:
    images = np.zeros((1, 4, 2), np.float32)
    model = logistic(3)
    subject = Subject(model, drawn_variables(model, images.shape), MEAN, STD)
    with pytest.raises(ValueError, match="classes are whole numbers from 0 to 2"):
        saliency(subject, images, [3])
