"""Logistic regression against scikit-learn's, and against its own conditions of optimality in float64."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from cnnjax.train.chunks import array_rows
from cnnjax.train.logistic import LogisticFit, fit_logistic, logistic_path, logistic_problem

FEATURES = load_digits().data[:200].astype(np.float32)
LABELS = load_digits().target[:200]
PROBLEM = logistic_problem(array_rows(FEATURES), 200, LABELS, 10, 200)


def loss(kernel: np.ndarray, bias: np.ndarray, strength: float) -> float:
    """The objective in float64."""
    kernel, bias = np.float64(kernel), np.float64(bias)
    logarithms = log_softmax(np.float64(FEATURES) @ kernel + bias, 1)
    return -logarithms[np.arange(200), LABELS].sum() + strength / 2 * (kernel**2).sum()


def gradient(fit: LogisticFit) -> np.ndarray:
    """Of the objective with respect to the kernel and, as the last row, the bias, in float64."""
    kernel, bias = np.float64(fit.kernel), np.float64(fit.bias)
    wrong = softmax(np.float64(FEATURES) @ kernel + bias, 1) - np.eye(10)[LABELS]
    return np.vstack([FEATURES.T @ wrong + fit.strength * kernel, wrong.sum(0)])


@pytest.mark.parametrize("strength", [pytest.param(1e-3, marks=pytest.mark.slow), 1.0, 1e3])
def test_equals_scikit_learn(strength: float) -> None:
    fit = fit_logistic(PROBLEM, strength, tolerance=1e-5)
    assert fit.converged and fit.strength == strength
    reference = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=10000, solver="newton-cg")
    reference.fit(np.float64(FEATURES), LABELS)
    kernel, bias = reference.coef_.T, reference.intercept_
    best = loss(kernel, bias, strength)
    found = loss(fit.kernel, fit.bias, strength)
    assert found <= best * (1 + 1e-5)
    np.testing.assert_allclose(fit.loss, found, rtol=1e-4)
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-3 * np.abs(kernel).max())
    # Biases may all move by one number: softmax does not see it.
    shifted = np.asarray(fit.bias) - np.mean(fit.bias), bias - bias.mean()
    np.testing.assert_allclose(*shifted, atol=2e-3 * np.abs(bias).max())


@pytest.mark.parametrize("chunk", [40, pytest.param(16, marks=pytest.mark.slow)])
def test_more_features_than_examples(chunk: int) -> None:
    wide, labels = FEATURES[:40], LABELS[:40]
    fit = fit_logistic(logistic_problem(array_rows(wide), 40, labels, 10, chunk), 1.0, tolerance=1e-5)
    reference = LogisticRegression(C=1, tol=1e-8, max_iter=10000, solver="newton-cg").fit(np.float64(wide), labels)
    assert fit.converged
    np.testing.assert_allclose(fit.kernel, reference.coef_.T, atol=1e-3 * np.abs(reference.coef_).max())


def test_gradient_vanishes_where_it_says_converged() -> None:
    start = np.abs(gradient(LogisticFit(np.zeros((64, 10)), np.zeros(10), 0.1, 0, False, 0))).max()
    fit = fit_logistic(PROBLEM, 0.1, tolerance=1e-5)
    assert fit.converged
    assert np.abs(gradient(fit)).max() < 1e-5 * start


def test_path_equals_separate_fits_and_costs_less() -> None:
    strengths = (1e-2, 10.0, 1.0, 0.1, 10.0)
    fits = logistic_path(PROBLEM, strengths, tolerance=1e-5)
    separate = [fit_logistic(PROBLEM, strength, tolerance=1e-5) for strength in strengths]
    for fit, alone in zip(fits, separate, strict=True):
        assert fit.converged and fit.strength == alone.strength
        np.testing.assert_allclose(fit.loss, alone.loss, rtol=1e-5)
        np.testing.assert_allclose(fit.kernel, alone.kernel, atol=3e-3 * np.abs(alone.kernel).max())
    assert sum(fit.iterations for fit in fits) < sum(fit.iterations for fit in separate)


def test_chunks_give_the_same_fit() -> None:
    reads = []

    def rows(first: int, last: int) -> np.ndarray:
        reads.append((first, last))
        return FEATURES[first:last]

    chunked = logistic_problem(rows, 200, LABELS, 10, 72)
    fit, whole = fit_logistic(chunked, 10.0, tolerance=1e-5), fit_logistic(PROBLEM, 10.0, tolerance=1e-5)
    assert set(reads) == {(0, 72), (72, 144), (128, 200)}
    np.testing.assert_allclose(chunked.mean, PROBLEM.mean, rtol=1e-5)
    np.testing.assert_allclose(chunked.scale, PROBLEM.scale, rtol=1e-6)
    assert fit.converged
    np.testing.assert_allclose(fit.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(fit.kernel, whole.kernel, atol=1e-3 * np.abs(whole.kernel).max())


def test_relative_strengths_do_not_see_the_scale_nor_a_far_mean() -> None:
    unit = ((np.float64(FEATURES) - FEATURES.mean(0)) ** 2).sum(0).mean()
    other = logistic_problem(array_rows(16 * FEATURES + np.float32(1024)), 200, LABELS, 10, 200)
    fit = logistic_path(PROBLEM, (0.01,), relative=True, tolerance=1e-5)[0]
    scaled = logistic_path(other, (0.01,), relative=True, tolerance=1e-5)[0]
    np.testing.assert_allclose([fit.strength, scaled.strength], [0.01 * unit, 2.56 * unit], rtol=1e-4)
    np.testing.assert_allclose(scaled.loss, fit.loss, rtol=1e-5)
    np.testing.assert_allclose(16 * scaled.kernel, fit.kernel, atol=1e-3 * np.abs(fit.kernel).max())


def test_a_fit_starts_where_another_ended() -> None:
    fit = fit_logistic(PROBLEM, 1.0)
    again = fit_logistic(PROBLEM, 1.0, start=fit, tolerance=2e-4)
    assert again.converged and again.iterations == 0
    np.testing.assert_allclose(again.kernel, fit.kernel, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(again.bias, fit.bias, rtol=1e-4, atol=1e-5)


def test_what_has_not_converged_says_so() -> None:
    short = fit_logistic(PROBLEM, 0.1, most_iterations=5)
    assert (short.converged, short.iterations) == (False, 5)
    assert loss(short.kernel, short.bias, 0.1) > 1.01 * fit_logistic(PROBLEM, 0.1).loss
    beyond_rounding = fit_logistic(PROBLEM, 1.0, tolerance=0, most_iterations=300)
    assert not beyond_rounding.converged
    np.testing.assert_allclose(beyond_rounding.loss, fit_logistic(PROBLEM, 1.0).loss, rtol=1e-4)


def test_separable_classes_under_the_weakest_penalties() -> None:
    fits = logistic_path(PROBLEM, (1e-2, 1e-5, 1e-8), relative=True)
    assert all(fit.converged for fit in fits)
    for fit in fits:
        np.testing.assert_allclose(fit.loss, loss(fit.kernel, fit.bias, fit.strength), rtol=1e-3)


def test_constant_features_predict_the_frequencies() -> None:
    labels = np.array([0, 1, 1, 2, 2, 2, 2])
    fit = fit_logistic(logistic_problem(array_rows(np.full((7, 2), 5, np.float32)), 7, labels, 3, 3), 1.0)
    assert fit.converged
    np.testing.assert_allclose(softmax(5 * fit.kernel.sum(0) + fit.bias), np.array([1, 2, 4]) / 7, atol=2e-4)


def test_refused() -> None:
    rows = array_rows(FEATURES)
    for arguments in ((0, LABELS[:0], 10, 5), (200, LABELS, 1, 5), (200, LABELS, 10, 0)):
        with pytest.raises(ValueError, match="needed: examples and chunk >= 1, classes >= 2"):
            logistic_problem(rows, *arguments)
    with pytest.raises(ValueError, match=r"labels must be \[200\], not \[9\]"):
        logistic_problem(rows, 200, LABELS[:9], 10, 5)
    with pytest.raises(ValueError, match=r"labels must be in 0 ... 8; they span 0 ... 9"):
        logistic_problem(rows, 200, LABELS, 9, 5)
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="strength must be above 0"):
            fit_logistic(PROBLEM, strength)
    with pytest.raises(FloatingPointError, match="logistic regression"):
        logistic_problem(array_rows(np.where(FEATURES == 7, np.nan, FEATURES)), 200, LABELS, 10, 50)
