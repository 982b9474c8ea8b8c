"""Filters fitted to patches: the folded bank on raw patches against each method step by step; scale, keys, errors."""

import jax
import numpy as np
import pytest

from cnnjax.config import FitConfig
from cnnjax.filters.autoencoder import sparse_autoencoder
from cnnjax.filters.kmeans import kmeans
from cnnjax.filters.unsupervised import CENTROID_FITS, FITS, FilterBank

SETTINGS = FitConfig(iterations=3, whitening=0.1)
KEY = jax.random.key(3)


def ignore(share: float) -> None:
    """No progress line."""


def bright(count: int = 200) -> np.ndarray:
    """Patches of 6 correlated values around 120, as of pixels."""
    rng = np.random.default_rng(0)
    return (120 + 20 * rng.laplace(size=(count, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)


def fit(name: str, patches: np.ndarray, filters: int, key: jax.Array = KEY) -> FilterBank:
    return FITS[name](key, patches, filters, SETTINGS, ignore)


def centre(patches: np.ndarray) -> np.ndarray:
    return patches - patches.astype(np.float64).mean(axis=1, keepdims=True)


def normalise(patches: np.ndarray) -> np.ndarray:
    variance = patches.astype(np.float64).var(axis=1, keepdims=True)
    return centre(patches) / np.sqrt(variance + 0.01 * variance.mean())


def whitening(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    covariance = np.cov(patches.T, bias=True)
    values, vectors = np.linalg.eigh(covariance + 0.1 * np.trace(covariance) / 6 * np.eye(6))
    return patches.mean(axis=0), vectors / np.sqrt(values) @ vectors.T


def of_length_one(bank: np.ndarray) -> np.ndarray:
    """The bank but for its scale: banks that differ by one factor above 0 become equal."""
    return np.asarray(bank / np.linalg.norm(bank))


@pytest.mark.parametrize(("name", "filters"), [("patches", 9), ("kmeans", 9), ("pca", 5)])
def test_scale_is_what_random_filters_give_in_expectation_and_there_is_no_bias(name: str, filters: int) -> None:
    patches = bright()
    bank = fit(name, patches, filters)
    np.testing.assert_array_equal(bank.bias, np.zeros(filters))
    response = (patches.astype(np.float64) @ np.asarray(bank.kernel, np.float64)) ** 2
    np.testing.assert_allclose(response.mean(), 2 * (patches.astype(np.float64) ** 2).mean(), rtol=1e-3)
    np.testing.assert_allclose(np.asarray(bank.kernel).sum(axis=0), 0, atol=1e-4 * np.abs(bank.kernel).max())


@pytest.mark.parametrize("name", ["patches", "kmeans", "pca", "zca", "autoencoder"])
def test_the_same_key_gives_the_same_bank_and_another_key_another(name: str) -> None:
    filters = {"pca": 5, "zca": 6}.get(name, 9)
    one, again, other = (fit(name, bright(), filters, jax.random.key(k)) for k in (0, 0, 1))
    assert one.kernel.shape == (6, filters)
    assert one.bias.shape == (filters,)
    np.testing.assert_array_equal(one.kernel, again.kernel)
    assert np.any(one.kernel != other.kernel) == (name not in ("pca", "zca"))  # nothing in these two is drawn


def test_kmeans_on_raw_patches_is_its_pipeline() -> None:
    patches = bright()
    mean, matrix = whitening(normalise(patches))
    white = ((normalise(patches) - mean) @ matrix).astype(np.float32)
    centroids = np.asarray(kmeans(KEY, white, 9, SETTINGS.iterations, ignore), np.float64)
    found = patches @ np.asarray(fit("kmeans", patches, 9).kernel, np.float64)
    expected = of_length_one(centre(patches) @ matrix @ centroids.T)
    np.testing.assert_allclose(of_length_one(found), expected, atol=1e-3 * np.abs(expected).max())


def test_random_patches_are_distinct_whitened_patches_of_unit_length() -> None:
    patches = np.concatenate([bright(12), bright(12)[:6], np.full((5, 6), 0.1), np.full((4, 6), 77.7)])
    patches = patches.astype(np.float32)
    mean, matrix = whitening(normalise(patches))
    white = (normalise(patches)[:12] - mean) @ matrix
    unit = white / np.linalg.norm(white, axis=1, keepdims=True)
    found = np.asarray(fit("patches", patches, 12).kernel, np.float64)
    directions = unit @ matrix
    directions -= directions.mean(axis=1, keepdims=True)
    cosines = (directions / np.linalg.norm(directions, axis=1, keepdims=True)) @ (found / np.linalg.norm(found, axis=0))
    order = cosines.argmax(axis=0)
    assert sorted(order) == list(range(12))
    expected = of_length_one(directions[order].T)
    np.testing.assert_allclose(of_length_one(found), expected, atol=1e-3 * np.abs(expected).max())


def test_pca_is_of_patches_without_their_means() -> None:
    patches = bright()
    found = np.asarray(fit("pca", patches, 3).kernel, np.float64)
    centred = centre(patches)
    directions = np.linalg.svd(centred - centred.mean(axis=0))[2][:3].T
    expected = of_length_one(directions * np.sign((directions * found).sum(axis=0)))
    np.testing.assert_allclose(of_length_one(found), expected, atol=1e-3 * np.abs(expected).max())


def test_zca_whitens_and_has_a_filter_for_each_value() -> None:
    patches = bright()
    bank = FITS["zca"](KEY, patches, 6, FitConfig(whitening=0.0), ignore)
    white = patches @ np.asarray(bank.kernel, np.float64) + np.asarray(bank.bias)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=1e-2)
    with pytest.raises(ValueError, match=r"as many filters as a patch has values, 6, not 5"):
        fit("zca", patches, 5)


def test_autoencoder_on_raw_patches_is_its_pipeline_with_its_bias() -> None:
    patches = bright()
    mean, matrix = whitening(centre(patches))
    white = (centre(patches) - mean) @ matrix
    encoder = sparse_autoencoder(KEY, white.astype(np.float32), 9, SETTINGS.iterations, ignore)
    bank = fit("autoencoder", patches, 9)
    found = patches @ np.asarray(bank.kernel, np.float64) + np.asarray(bank.bias)
    np.testing.assert_allclose(found, white @ np.asarray(encoder.weights) + np.asarray(encoder.bias), atol=2e-3)


def test_centroids_of_vectors_as_they_are() -> None:
    vectors = bright(9)
    drawn = np.asarray(CENTROID_FITS["patches"](KEY, vectors, 9, SETTINGS, ignore))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(drawn[:, np.argsort(drawn[0])], unit[np.argsort(unit[:, 0])].T, rtol=1e-5)
    found = np.asarray(CENTROID_FITS["kmeans"](KEY, vectors, 9, SETTINGS, ignore))
    np.testing.assert_allclose(found[:, np.argsort(found[0])], vectors[np.argsort(vectors[:, 0])].T, rtol=1e-5)


@pytest.mark.parametrize("name", ["patches", "kmeans"])
def test_patches_that_differ_in_brightness_alone_are_one(name: str) -> None:
    rows = bright(3)
    patches = np.concatenate([rows, rows + 1, rows + 30, rows[:2]])
    with pytest.raises(ValueError, match="3 distinct patches cannot support 4 filters; use at most 3 filters"):
        fit(name, patches, 4)
    with pytest.raises(ValueError, match="3 distinct patches cannot support 4 filters"):
        CENTROID_FITS[name](KEY, np.concatenate([rows, rows]), 4, SETTINGS, ignore)


@pytest.mark.parametrize(("name", "filters"), [("zca", 6), ("autoencoder", 2)])
def test_patches_that_do_not_differ_are_refused(name: str, filters: int) -> None:
    one = np.linspace(0.1, 255, 6, dtype=np.float32)
    with pytest.raises(ValueError, match="9 patches that do not differ cannot support filters"):
        fit(name, np.repeat(one[None], 9, axis=0), filters)


def test_whitening_of_fewer_patches_than_values_is_refused() -> None:
    patches = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    with pytest.raises(ValueError, match="6 patches cannot support the whitening of 6 values; use more"):
        fit("zca", patches, 6)


@pytest.mark.parametrize("name", ["patches", "kmeans", "pca"])
def test_constant_patches_are_refused(name: str) -> None:
    patches = np.repeat(np.linspace(0.1, 255, 9, dtype=np.float32)[:, None], 6, axis=1)
    with pytest.raises(ValueError, match=r"[01] distinct patches cannot support 2|have 0 principal components"):
        fit(name, patches, 2)
