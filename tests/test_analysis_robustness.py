"""Accuracy under attack: linear networks, whose margins say which images fall at which epsilon."""

import jax
import numpy as np
import pytest

from cnnjax.analysis.robustness import other_classes, robustness_curve, transfer_matrix
from cnnjax.analysis.subject import Subject
from cnnjax.models.logistic import logistic
from tests.wilson import wilson

KEY = jax.random.key(5)
RNG = np.random.default_rng(3)
IMAGES = RNG.uniform(100, 155, (23, 3, 2, 1)).astype(np.float32)  # far from the ends of the legal pixels
WEIGHTS = RNG.normal(size=6)


def two_classes(weights: np.ndarray) -> Subject:
    """Class 1 where the weights' sum over the pixels, less 127.5, is positive."""
    matrix = np.stack([np.zeros(6), weights], axis=1).astype(np.float32)
    head = {"kernel": matrix, "bias": np.zeros(2, np.float32)}
    return Subject(logistic(2), {"params": {"head": head}}, (127.5,), (10.0,))


def sums(weights: np.ndarray, images: np.ndarray) -> np.ndarray:
    return (images.reshape(len(images), -1).astype(np.float64) - 127.5) @ weights


LABELS = (sums(WEIGHTS, IMAGES) > 0).astype(np.int32)
LABELS[:3] = 1 - LABELS[:3]  # the network is wrong about three


@pytest.mark.parametrize(("method", "norm", "order"), [("fgsm", "linf", 1), ("pgd", "linf", 1), ("fgsm", "l2", 2)])
def test_accuracy_of_a_linear_network_is_the_share_of_margins_above_epsilon(method: str, norm: str, order: int) -> None:
    epsilons = np.array([0, 0.005, 0.02, 0.05, 0.2])
    margin = (2 * LABELS - 1) * sums(WEIGHTS, IMAGES)
    right = margin[:, None] > 255 * epsilons * np.linalg.norm(WEIGHTS, order)
    found = robustness_curve(two_classes(WEIGHTS), IMAGES, LABELS, method, norm, epsilons, KEY, batch_size=10)
    assert [finding.metric for finding in found] == [f"{method}_{norm}/accuracy"] * 5
    assert [finding.magnitude for finding in found] == epsilons.tolist()
    np.testing.assert_allclose([finding.value for finding in found], right.mean(0), rtol=1e-12, atol=1e-12)
    assert 0 < right[:, 2].sum() < right[:, 0].sum() == 20 and right[:, -1].sum() == 0
    np.testing.assert_allclose(np.transpose([(f.low, f.high) for f in found]), wilson(right.mean(0), 23), atol=1e-9)


def test_targeted_success_rises_from_the_share_of_errors_to_all() -> None:
    targets = other_classes(LABELS, 2, KEY)
    np.testing.assert_array_equal(targets, 1 - LABELS)
    subject = two_classes(WEIGHTS)
    found = robustness_curve(
        subject, IMAGES, LABELS, "pgd", "linf", [0, 0.02, 0.3], KEY, batch_size=10, targets=targets
    )
    assert {finding.metric for finding in found} == {"pgd_linf_targeted/success"}
    values = [finding.value for finding in found]
    np.testing.assert_allclose([values[0], values[2]], [3 / 23, 1], rtol=1e-12)
    assert values[0] < values[1] < values[2]
    with pytest.raises(ValueError, match="1 of 23 targets are the true class"):
        targets[7] = LABELS[7]
        robustness_curve(subject, IMAGES, LABELS, "pgd", "linf", [0.1], KEY, targets=targets)


def test_other_classes_are_drawn_evenly_from_the_others() -> None:
    labels = np.repeat(np.arange(4), 600)
    drawn = other_classes(labels, 4, KEY)
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, drawn), 1)
    assert drawn.dtype == np.int32 and np.all(np.diag(counts) == 0)
    np.testing.assert_allclose(counts[~np.eye(4, dtype=bool)], 200, atol=50)
    with pytest.raises(ValueError, match="at least 2 classes, not 1"):
        other_classes(labels, 1, KEY)


def test_attacks_transfer_along_common_weights_and_not_to_orthogonal_ones() -> None:
    one = np.array([1.0, 2, -1, 0, 0, 0])
    across = np.array([0.0, 0, 0, 1, -2, 1])
    between = one + across
    weights = {"one": one, "louder": 5 * one, "across": across, "between": between}
    epsilon = 0.05
    labels = (sums(between, IMAGES) > 0).astype(np.int32)
    found = transfer_matrix(
        {name: two_classes(w) for name, w in weights.items()}, IMAGES, labels, "fgsm", "l2", epsilon, KEY, batch_size=10
    )
    signs = 2 * labels - 1
    expected = np.empty((4, 4))
    for row, maker in enumerate(weights.values()):
        step = -255 * epsilon * signs[:, None] * maker / np.linalg.norm(maker)
        for column, viewer in enumerate(weights.values()):
            expected[row, column] = np.mean(signs * (sums(viewer, IMAGES) + step @ viewer) > 0)
    assert found.names == tuple(weights)
    np.testing.assert_allclose(found.accuracy, expected, rtol=1e-12)
    clean = np.mean(signs * sums(across, IMAGES) > 0)
    assert found.accuracy[0, 2] == found.accuracy[1, 2] == clean > found.accuracy[2, 2]
    assert found.accuracy[0, 0] == found.accuracy[0, 1] == found.accuracy[1, 0]
    np.testing.assert_allclose([found.low, found.high], wilson(expected, len(IMAGES)), atol=1e-9)


def test_bad_requests_are_refused() -> None:
    subject = two_classes(WEIGHTS)
    with pytest.raises(ValueError, match="at least one epsilon"):
        robustness_curve(subject, IMAGES, LABELS, "fgsm", "linf", [], KEY)
    other = Subject(subject.model, subject.variables, subject.mean, subject.std, high=1.0)
    with pytest.raises(ValueError, match=r"one range of legal pixels; given \[\(0.0, 1.0\), \(0.0, 255.0\)\]"):
        transfer_matrix({"a": subject, "b": other}, IMAGES, LABELS, "fgsm", "linf", 0.1, KEY)
