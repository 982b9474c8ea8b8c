"""Ridge regression against scikit-learn's, and against the singular value decomposition in float64."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge

from cnnjax.train.chunks import array_rows
from cnnjax.train.ridge import RidgePath, correct_counts, ridge_path
from cnnjax.train.targets import one_hot_targets

STRENGTHS = (1e-3, 1.0, 100.0)


def draw(examples: int, width: int, outputs: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(4, 1, (examples, width)) * rng.uniform(0.3, 3, width)
    return features.astype(np.float32), rng.normal(2, 1, (examples, outputs)).astype(np.float32)


def by_scikit_learn(features: np.ndarray, targets: np.ndarray, strengths: tuple[float, ...]) -> RidgePath:
    fits = [Ridge(alpha=strength, solver="svd").fit(*map(np.float64, (features, targets))) for strength in strengths]
    return RidgePath(np.stack([fit.coef_.T for fit in fits]), np.stack([fit.intercept_ for fit in fits]), strengths)


def smallest_least_squares(features: np.ndarray, targets: np.ndarray, strength: float) -> np.ndarray:
    """Predictions [N, K], in float64, with singular values that are rounding taken as 0."""
    centred = np.float64(features) - np.float64(features).mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    left, values = left[:, values > 1e-9 * values[0]], values[values > 1e-9 * values[0]]
    share = (values**2 / (values**2 + strength))[:, None]
    return targets.mean(0) + left @ (share * (left.T @ (targets - targets.mean(0))))


def predictions(path: RidgePath, features: np.ndarray) -> np.ndarray:
    kernels, biases = np.float64(path.kernels), np.float64(path.biases)
    return np.float64(features) @ kernels + biases[:, None]


@pytest.mark.parametrize("width", [7, 60], ids=["tall", "wide"])
@pytest.mark.parametrize(
    "chunk", [pytest.param(16, marks=pytest.mark.slow), 17, pytest.param(40, marks=pytest.mark.slow), 100]
)
def test_equals_scikit_learn(width: int, chunk: int) -> None:
    features, targets = draw(40, width)
    path = ridge_path(array_rows(features), 40, targets, STRENGTHS, chunk)
    expected = by_scikit_learn(features, targets, STRENGTHS)
    np.testing.assert_allclose(path.kernels, expected.kernels, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(path.biases, expected.biases, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(path.strengths, STRENGTHS)


@pytest.mark.slow
@given(st.integers(2, 12), st.integers(1, 12), st.integers(2, 3), st.integers(1, 13), st.integers(0, 99))
def test_equals_scikit_learn_at_any_shape(examples: int, width: int, outputs: int, chunk: int, seed: int) -> None:
    features, targets = draw(examples, width, outputs, seed)
    path = ridge_path(array_rows(features), examples, targets, (1.0,), chunk)
    expected = by_scikit_learn(features, targets, (1.0,))
    np.testing.assert_allclose(path.kernels, expected.kernels, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(path.biases, expected.biases, rtol=1e-4, atol=5e-4)


@pytest.mark.parametrize("width", [pytest.param(5, marks=pytest.mark.slow), 30], ids=["tall", "wide"])
def test_a_far_mean_costs_no_precision(width: int) -> None:
    features, targets = draw(25, width)
    far = features + np.float32(4096)
    path = ridge_path(array_rows(far), 25, targets, (0.1,), 10)
    expected = by_scikit_learn(far, targets, (0.1,))
    np.testing.assert_allclose(path.kernels, expected.kernels, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", [6, pytest.param(50, marks=pytest.mark.slow)], ids=["tall", "wide"])
def test_duplicated_and_constant_features_at_tiny_strengths(width: int) -> None:
    features, targets = draw(30, width)
    features = np.hstack([features, features[:, :4], np.full((30, 2), 1e4, np.float32)])
    strengths = (0.0, 1e-30, 1e-12, 1e-6, 1.0)
    path = ridge_path(array_rows(features), 30, targets, strengths, 11)
    for strength, found in zip(strengths, predictions(path, features), strict=True):
        np.testing.assert_allclose(found, smallest_least_squares(features, targets, strength), atol=1e-3)
    np.testing.assert_allclose(path.kernels[:, :4], path.kernels[:, width : width + 4], atol=1e-4)
    np.testing.assert_allclose(path.kernels[:, -2:], 0, atol=1e-8)


@pytest.mark.parametrize("examples", [40, pytest.param(3, marks=pytest.mark.slow)], ids=["tall", "wide"])
def test_strength_below_what_rounding_leaves_is_not_taken_for_more(examples: int) -> None:
    # The smallest direction has 1e-4 of the largest eigenvalue: a strength as large as rounding takes 1% off it.
    features, targets = draw(examples, 4)
    left, _, right = np.linalg.svd(np.float64(features) - features.mean(0), full_matrices=False)
    rank = min(examples - 1, 4)
    features = np.float32((left[:, :rank] * np.geomspace(1, 1e-2, rank)) @ right[:rank])
    path = ridge_path(array_rows(features), examples, targets, (0.0,), 64)
    expected = np.linalg.pinv(np.float64(features) - features.mean(0), rcond=1e-5) @ (targets - targets.mean(0))
    np.testing.assert_allclose(path.kernels[0], expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_rare_features_are_known_as_well_as_common_ones() -> None:
    # Some pixels of digits are ink in one image only: eigenvalues of a millionth of the largest.
    features, labels = load_digits(return_X_y=True)
    targets = np.eye(10)[labels]
    path = ridge_path(array_rows(features), len(features), targets, (1.0, 100.0), 512)
    expected = by_scikit_learn(features, targets, (1.0, 100.0))
    np.testing.assert_allclose(path.kernels, expected.kernels, atol=1e-5)
    np.testing.assert_allclose(predictions(path, features), predictions(expected, features), atol=3e-5)


@pytest.mark.slow
def test_polynomials_that_float32_cannot_tell_apart_stay_finite() -> None:
    features = np.vander(np.linspace(0, 1, 50), 14).astype(np.float32)
    targets = np.sin(6 * np.linspace(0, 1, 50))[:, None]
    path = ridge_path(array_rows(features), 50, targets, (0.0, 1e-20, 1e-9, 1e-4), 50)
    errors = np.abs(predictions(path, features) - targets).max((1, 2))
    assert np.isfinite(path.kernels).all()
    assert errors.max() < 0.1


@pytest.mark.parametrize("width", [4, pytest.param(30, marks=pytest.mark.slow)], ids=["tall", "wide"])
def test_relative_strengths_do_not_see_the_scale(width: int) -> None:
    features, targets = draw(20, width)
    unit = ((np.float64(features) - features.mean(0)) ** 2).sum(0).mean()
    path = ridge_path(array_rows(features), 20, targets, (0.01, 1.0), 8, relative=True)
    scaled = ridge_path(array_rows(64 * features), 20, targets, (0.01, 1.0), 8, relative=True)
    np.testing.assert_allclose(path.strengths, [0.01 * unit, unit], rtol=1e-5)
    np.testing.assert_allclose(64 * scaled.kernels, path.kernels, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scaled.biases, path.biases, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_constant_features_alone_predict_the_mean() -> None:
    features, targets = np.full((9, 3), 7, np.float32), draw(9, 1)[1]
    path = ridge_path(array_rows(features), 9, targets, (0.0, 1.0), 4, relative=True)
    np.testing.assert_array_equal(path.kernels, np.zeros((2, 3, 3)))
    np.testing.assert_allclose(path.biases, [targets.mean(0)] * 2, rtol=1e-6)


def counting(features: np.ndarray) -> tuple[Callable[[int, int], np.ndarray], list[tuple[int, int]]]:
    reads: list[tuple[int, int]] = []

    def rows(first: int, last: int) -> np.ndarray:
        reads.append((first, last))
        return features[first:last]

    return rows, reads


@pytest.mark.slow
def test_reads() -> None:
    features, targets = draw(10, 3)
    rows, reads = counting(features)
    path = ridge_path(rows, 10, targets, STRENGTHS, 4)
    assert reads == [(0, 4), (4, 8), (6, 10)]
    reads.clear()
    correct_counts(path.kernels, path.biases, rows, 10, np.zeros(10, int), 4)
    assert reads == [(0, 4), (4, 8), (6, 10)]
    rows, reads = counting(draw(10, 20)[0])
    ridge_path(rows, 10, targets, STRENGTHS, 10)
    assert reads == [(0, 10)]
    reads.clear()
    ridge_path(rows, 10, targets, STRENGTHS, 4)
    # Each pair of the three chunks meets, and the kernels take another pass; the first chunk is kept.
    first, second, last = (0, 4), (4, 8), (6, 10)
    assert reads == [first, second, last, second, last, last, second, last]


@pytest.mark.parametrize("chunk", [3, 5, 16, 50])
def test_correct_counts(chunk: int) -> None:
    rng = np.random.default_rng(3)
    kernels, biases = rng.integers(-3, 4, (4, 5, 3)), rng.integers(-3, 4, (4, 3)) + np.arange(3) / 8
    features, labels = rng.integers(-3, 4, (16, 5)).astype(np.float32), rng.integers(0, 3, 16)
    expected = [
        (np.argmax(features @ kernel + bias, 1) == labels).sum() for kernel, bias in zip(kernels, biases, strict=True)
    ]
    arguments = [jax.numpy.float32(kernels), jax.numpy.float32(biases), array_rows(features), 16, labels, chunk]
    np.testing.assert_array_equal(correct_counts(*arguments), expected)


def test_targets() -> None:
    np.testing.assert_array_equal(one_hot_targets(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
    for labels in ([0, 3], [-1, 0], [0.0, 1.0], [[0]]):
        with pytest.raises(ValueError, match="labels must be"):
            one_hot_targets(np.array(labels), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": 0}, "examples and chunk must be at least 1, not 0 and 4"),
        ({"chunk": 0}, "examples and chunk must be at least 1, not 6 and 0"),
        ({"targets": np.zeros(6)}, r"targets must be \[6, K\], not \[6\]"),
        ({"targets": np.zeros((5, 2))}, r"targets must be \[6, K\], not \[5, 2\]"),
        ({"strengths": (1.0, -1.0)}, "strengths must be"),
        ({"strengths": (1.0, np.nan)}, "strengths must be"),
        ({"strengths": (1.0, np.inf)}, "strengths must be"),
        ({"strengths": ()}, "strengths must be"),
    ],
)
def test_refused(change: dict, message: str) -> None:
    features, targets = draw(6, 2)
    arguments = {"rows": array_rows(features), "examples": 6, "targets": targets, "strengths": (1.0,), "chunk": 4}
    with pytest.raises(ValueError, match=message):
        ridge_path(**{**arguments, **change})


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("width", [2, 9])
def test_features_that_are_not_finite_are_no_solution(value: float, width: int) -> None:
    features, targets = draw(6, width)
    features[5, 1] = value
    with pytest.raises(FloatingPointError, match="ridge regression"):
        ridge_path(array_rows(features), 6, targets, (1.0,), 4)
