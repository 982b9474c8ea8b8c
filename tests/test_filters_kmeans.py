"""k-means: planted clusters, scikit-learn's iterations, empty clusters, blocks, and being stopped."""

import jax
import numpy as np
import pytest
from sklearn.cluster import KMeans

from cnnjax.filters import kmeans as module
from cnnjax.filters.kmeans import distinct_vectors, kmeans, lloyd


def ignore(share: float) -> None:
    """No progress line."""


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Eight centres, and 20 vectors close to each, all far from the origin."""
    rng = np.random.default_rng(0)
    centres = 1000 + 20 * rng.permutation(64)[:8, None] + rng.normal(size=(8, 5))
    vectors = np.repeat(centres, 20, axis=0) + 0.1 * rng.normal(size=(160, 5))
    return centres, rng.permutation(vectors).astype(np.float32)


def test_planted_clusters_are_found_from_any_key_and_the_key_decides_their_order() -> None:
    centres, vectors = planted()
    found = [np.asarray(kmeans(jax.random.key(k), vectors, 8, 3, ignore)) for k in (0, 1, 2, 0)]
    for centroids in found:
        order = np.argsort(centroids[:, 0])
        np.testing.assert_allclose(centroids[order], centres[np.argsort(centres[:, 0])], atol=0.15)
    np.testing.assert_array_equal(found[0], found[3])
    assert np.any(found[0] != found[1])


@pytest.mark.parametrize("at_once", [2**22, 70])
def test_iterations_are_those_of_scikit_learn_however_many_blocks(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISTANCES_AT_ONCE", at_once)
    vectors = np.random.default_rng(1).normal(size=(101, 3)).astype(np.float32)
    expected = KMeans(7, init=vectors[:7], n_init=1, max_iter=4, tol=0, algorithm="lloyd").fit(vectors)
    found = jax.jit(lambda v, c: lloyd.__wrapped__(v, c, 4))(vectors, vectors[:7])
    np.testing.assert_allclose(found, expected.cluster_centers_, rtol=1e-4, atol=1e-5)


def test_empty_clusters_move_to_the_farthest_vectors_one_by_one() -> None:
    vectors = np.array([[0.0], [1.0], [50.0], [50.0], [49.0], [-30.0]], np.float32)
    start = np.array([[0.5], [900.0], [-800.0]], np.float32)
    moved = np.asarray(lloyd(vectors, start, 1))
    np.testing.assert_array_equal(moved[1:], [[50.0], [-30.0]])  # the second 50 is no longer far from all
    settled = np.asarray(lloyd(vectors, start, 3))
    np.testing.assert_allclose(settled, [[0.5], [149 / 3], [-30.0]], rtol=1e-6)


def test_too_few_distinct_vectors_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    vectors = np.concatenate([rows, rows * (1 + 1e-7), rows[:2]])
    message = "3 distinct patches cannot support 4 filters; use at most 3 filters, or more patches"
    with pytest.raises(ValueError, match=message):
        kmeans(jax.random.key(0), vectors, 4, 1, ignore)
    centroids = np.asarray(kmeans(jax.random.key(0), vectors, 3, 2, ignore))
    np.testing.assert_allclose(np.sort(centroids, axis=0), np.sort(rows, axis=0), atol=1e-5)


def test_vectors_are_told_apart_beyond_rounding() -> None:
    vectors = np.array([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.001], [1e-8, 1.0], [0.0, 1.001]], np.float32)
    np.testing.assert_array_equal(distinct_vectors(vectors), [0, 2])
    np.testing.assert_array_equal(distinct_vectors(np.zeros((3, 2), np.float32)), [0])


def test_progress_is_told_between_dispatches_which_change_nothing_and_may_stop_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = planted()[1]
    whole = kmeans(jax.random.key(0), vectors, 8, 4, ignore)
    monkeypatch.setattr(module, "PRODUCTS_IN_A_DISPATCH", 2 * 2 * vectors.size * 8)
    monkeypatch.setattr(module, "DIFFERENCES_IN_A_DISPATCH", 4 * vectors.size)
    shares: list[float] = []
    parts = kmeans(jax.random.key(0), vectors, 8, 4, shares.append)
    np.testing.assert_allclose(shares, [5 / 8 / 5, 1 / 5, 3 / 5, 1])
    np.testing.assert_array_equal(parts, whole)

    def stop(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    shares.clear()
    with pytest.raises(KeyboardInterrupt):
        kmeans(jax.random.key(0), vectors, 8, 4, stop)
    np.testing.assert_allclose(shares, [5 / 8 / 5, 1 / 5, 3 / 5])
