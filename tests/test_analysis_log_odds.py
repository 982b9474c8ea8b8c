"""Log-odds and their steepest ascent, against NumPy and JAX's cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from cnnjax.analysis.log_odds import ascent, class_count, log_odds
from cnnjax.analysis.subject import Subject
from cnnjax.layers.dense import Dense
from cnnjax.layers.sequence import Named, Sequential
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables

SHAPE = (5, 2)
MODEL = Network((Stage("body", Dense(4)), Stage("head", Sequential((Named("layer", Dense(3)),)))))
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, *SHAPE)).astype(np.float32)
CLASSES = np.array([0, 1, 2, 1])


def drawn(factor: float) -> tuple[Subject, np.ndarray, np.ndarray]:
    """A linear network in two stages; and of its logits, the matrix over raw pixels and the constant."""
    variables = drawn_variables(MODEL, (1, *SHAPE))
    variables["params"]["head"]["layer"]["kernel"] *= factor
    mean, std = (100.0, 140.0), (40.0, 80.0)
    body, head = variables["params"]["body"], variables["params"]["head"]["layer"]
    scale = np.tile(std, SHAPE[0])
    product = body["kernel"].astype(np.float64) @ head["kernel"]
    constant = body["bias"].astype(np.float64) @ head["kernel"] + head["bias"]
    matrix = product / scale[:, None]
    return Subject(MODEL, variables, mean, std), matrix, constant - np.tile(mean, SHAPE[0]) @ matrix


ascend = jax.jit(ascent, static_argnames="norm")


@pytest.mark.parametrize("factor", [1, 1000])  # at 1,000 the softmax of float32 is 0 and 1
def test_direction_is_that_of_the_cross_entropy_however_sure_the_network(factor: float) -> None:
    subject, matrix, constant = drawn(factor)
    logits = IMAGES.reshape(4, -1).astype(np.float64) @ matrix + constant
    own = np.eye(3)[CLASSES]
    # The pull of the other classes, relative to each other: their softmax without the class itself.
    others = softmax(np.where(own, -np.inf, logits), axis=1)
    gradient = (own - others) @ matrix.T
    odds, direction = ascend(subject, IMAGES, CLASSES, norm="l2")
    expected = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(np.reshape(direction, (4, -1)), expected, atol=2e-3 if factor > 1 else 1e-5)
    probability = log_softmax(logits, axis=1)[np.arange(4), CLASSES]
    if factor == 1:
        np.testing.assert_allclose(odds, probability - np.log1p(-np.exp(probability)), rtol=1e-3, atol=1e-4)
        cross_entropy = (softmax(logits, axis=1) - own) @ matrix.T
        signs = ascend(subject, IMAGES, CLASSES, norm="linf")[1]
        np.testing.assert_array_equal(np.reshape(signs, (4, -1)), -np.sign(cross_entropy))


def test_network_that_sees_nothing_has_no_direction() -> None:
    subject, _, _ = drawn(0)
    for norm in ("linf", "l2"):
        np.testing.assert_array_equal(ascend(subject, IMAGES, CLASSES, norm=norm)[1], np.zeros_like(IMAGES))


def test_gradient_that_is_not_finite_gives_no_direction() -> None:
    subject, _, _ = drawn(1)
    subject.variables["params"]["head"]["layer"]["kernel"] *= np.float32(np.inf)
    np.testing.assert_array_equal(ascend(subject, IMAGES, CLASSES, norm="linf")[1], np.zeros_like(IMAGES))


def test_classes_are_counted_and_odds_are_of_the_softmax() -> None:
    subject, matrix, constant = drawn(1)
    assert class_count(subject, SHAPE) == 3
    odds = np.stack([log_odds(subject, jnp.asarray(IMAGES[:1]), jnp.array([c]))[0] for c in range(3)])
    expected = softmax(IMAGES[0].ravel().astype(np.float64) @ matrix + constant)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), expected, rtol=1e-3)
