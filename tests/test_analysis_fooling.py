"""Fooling images: legal, ever surer, and the best of all where theory knows it."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax

import cnnjax
from cnnjax.analysis.fooling import Fooling, fooling_by_evolution, fooling_by_gradient, polynomial_mutation
from cnnjax.analysis.subject import Subject
from cnnjax.models.logistic import logistic
from tests.variables import drawn_variables

KEY = jax.random.key(2)
SIGNAL = (6, 2)
MATRIX = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
LINEAR = Subject(
    logistic(3), {"params": {"head": {"kernel": MATRIX, "bias": np.zeros(3, np.float32)}}}, (0.5, 0.5), (0.5, 1.0), 0, 1
)


@pytest.fixture(scope="module")
def convnet() -> Subject:
    model = cnnjax.build("convnet", num_classes=4, width=3, depth=1, kernel_size=3, pool="max", padding="circular")
    return Subject(model, drawn_variables(model, (1, 6, 5, 1)), (120.0,), (60.0,))


def probabilities(images: np.ndarray) -> np.ndarray:
    """Of `LINEAR`."""
    inputs = (images.astype(np.float64) - (0.5, 0.5)) / (0.5, 1.0)
    return softmax(inputs.reshape(len(images), -1) @ MATRIX, axis=1)


def check(found: Fooling, shape: tuple[int, ...], steps: int, high: float) -> None:
    assert found.images.shape == shape and found.images.dtype == np.float32
    assert found.images.min() >= 0 and found.images.max() <= high
    assert found.history.shape == (steps + 1, shape[0])
    assert np.all(np.diff(found.history, axis=0) >= 0)
    np.testing.assert_array_equal(found.history[-1], found.confidence)


def best_confidence(target: int) -> float:
    """Of all legal images: the log-odds of a linear network are concave, so that SciPy finds their one maximum."""
    inputs, offset = MATRIX.astype(np.float64) / np.tile([[0.5], [1.0]], (6, 1)), np.full(12, 0.5)

    def surprise(pixels: np.ndarray) -> float:
        logits = (pixels - offset) @ inputs
        return logsumexp(np.delete(logits, target)) - logits[target]

    found = minimize(surprise, np.full(12, 0.5), bounds=[(0, 1)] * 12, method="L-BFGS-B", options={"ftol": 1e-14})
    return float(expit(-found.fun))


BEST = np.array([best_confidence(target) for target in range(3)])


def test_gradient_ascent_finds_the_best_image_of_a_linear_network() -> None:
    found = fooling_by_gradient(LINEAR, SIGNAL, KEY, steps=2000, step_size=0.05)
    check(found, (3, *SIGNAL), 2000, 1)
    np.testing.assert_allclose(found.confidence, np.diag(probabilities(found.images)), rtol=1e-5)
    assert np.all(found.confidence <= BEST + 1e-6)
    np.testing.assert_allclose(1 - found.confidence, 1 - BEST, rtol=0.02)


def test_evolution_of_a_linear_network_never_loses_and_comes_near_the_best_image() -> None:
    found = fooling_by_evolution(LINEAR, SIGNAL, KEY, generations=150, children=20)
    check(found, (3, *SIGNAL), 150, 1)
    np.testing.assert_allclose(found.confidence, np.diag(probabilities(found.images)), rtol=1e-5)
    # The start is for each class the best of three images of noise.
    start = fooling_by_evolution(LINEAR, SIGNAL, KEY, generations=0, children=20)
    check(start, (3, *SIGNAL), 0, 1)
    np.testing.assert_allclose(start.confidence, found.history[0], rtol=1e-5)
    noise = np.unique(start.images, axis=0)
    np.testing.assert_allclose(start.confidence, probabilities(noise).max(axis=0), rtol=1e-5)
    assert np.all(found.confidence > start.confidence) and np.all(found.confidence <= BEST + 1e-6)
    assert np.all(1 - found.confidence < 3 * (1 - BEST))
    np.testing.assert_array_equal(
        fooling_by_evolution(LINEAR, SIGNAL, KEY, generations=150, children=20).images, found.images
    )


def test_convnet_is_fooled_by_both(convnet: Subject) -> None:
    shape = (6, 5, 1)
    climbed = fooling_by_gradient(convnet, shape, KEY, steps=30)
    evolved = fooling_by_evolution(convnet, shape, KEY, generations=40, children=10)
    for found, steps in ((climbed, 30), (evolved, 40)):
        check(found, (4, *shape), steps, 255)
        logits = jax.jit(convnet.model.apply)(convnet.variables, (found.images - np.float32(120)) / np.float32(60))
        np.testing.assert_allclose(found.confidence, np.diag(softmax(np.asarray(logits, np.float64), 1)), rtol=1e-4)
        assert np.all(found.confidence > found.history[0])


def test_polynomial_mutation_has_its_density_rate_and_bounds() -> None:
    images = np.full((200, 100), 127.5, np.float32)
    mutated = np.asarray(polynomial_mutation(KEY, images, 0.25, 0, 255))
    changed = mutated != 127.5
    np.testing.assert_allclose(changed.mean(), 0.25, atol=0.015)
    distance = (mutated[changed].astype(np.float64) - 127.5) / 255

    def up_to(d: np.ndarray) -> np.ndarray:
        """The distribution function of (1 + s) / 2 (1 - |d|)^s, s = 15."""
        return 0.5 + 0.5 * np.sign(d) * (1 - (1 - np.abs(d)) ** 16)

    # Hardly any pixel reaches the end of the range from its middle.
    assert stats.kstest(distance, up_to).pvalue > 0.01
    white = np.asarray(polynomial_mutation(KEY, images * 2, 1.0, 0, 255))
    assert white.max() == 255 and white.min() >= 0
    np.testing.assert_allclose(np.mean(white == 255), 0.5, atol=0.02)


def test_bad_requests_are_refused() -> None:
    for shape in ((6, 1), (2,), (0, 2)):
        with pytest.raises(ValueError, match=r"an image's shape is \(\*spatial, 2\) for this network"):
            fooling_by_gradient(LINEAR, shape, KEY)
    with pytest.raises(ValueError, match="at least 0, not -1"):
        fooling_by_evolution(LINEAR, SIGNAL, KEY, generations=-1)
    with pytest.raises(ValueError, match="at least 1 child, not 0"):
        fooling_by_evolution(LINEAR, SIGNAL, KEY, children=0)
    with pytest.raises(ValueError, match="above 0, not 0"):
        fooling_by_gradient(LINEAR, SIGNAL, KEY, step_size=0)
