"""Whitening: the covariance it leaves, against NumPy."""

import numpy as np

from cnnjax.filters.whitening import whiten, zca_whitening


def correlated(rank: int) -> np.ndarray:
    """500 patches of 6 values around 4, which vary in so many directions."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(500, rank)) @ rng.normal(size=(rank, 6)) + 4).astype(np.float32)


def test_without_epsilon_the_covariance_becomes_the_identity_and_the_map_is_symmetric() -> None:
    patches = correlated(6)
    whitening = zca_whitening(patches, 0.0)
    white = np.asarray(whiten(patches, whitening), np.float64)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=2e-3)
    np.testing.assert_allclose(whitening.matrix, whitening.matrix.T, atol=1e-5)
    assert np.linalg.eigvalsh(np.asarray(whitening.matrix)).min() > 0


def test_epsilon_is_a_share_of_the_mean_variance() -> None:
    patches = correlated(6).astype(np.float64)
    matrix = np.cov(patches.T, bias=True)
    values, vectors = np.linalg.eigh(matrix + 0.1 * np.trace(matrix) / 6 * np.eye(6))
    expected = vectors @ np.diag(values**-0.5) @ vectors.T
    found = zca_whitening(patches.astype(np.float32), 0.1)
    np.testing.assert_allclose(found.mean, patches.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-3, atol=1e-4)
    brighter = zca_whitening(200 * patches.astype(np.float32), 0.1)
    np.testing.assert_allclose(200 * brighter.matrix, expected, rtol=1e-3, atol=1e-4)


def test_directions_without_variance_are_mapped_to_0() -> None:
    patches = correlated(4)
    white = np.asarray(whiten(patches, zca_whitening(patches, 0.0)), np.float64)
    variances = np.linalg.eigvalsh(np.cov(white.T, bias=True))
    np.testing.assert_allclose(variances, [0, 0, 1, 1, 1, 1], atol=5e-3)
    constant = np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(zca_whitening(constant, 0.1).matrix, np.zeros((3, 3)))
