"""Random filters: one scale for all, and the law of each."""

import functools

import jax
import numpy as np
import pytest
import scipy.fft
import scipy.stats

from cnnjax.filters import random

SHAPE, INPUTS = (3, 3, 8, 40), 72
SOURCES = ("gaussian", "uniform", "signs", "orthogonal")
DISTRIBUTIONS = {"gaussian": scipy.stats.norm(), "uniform": scipy.stats.uniform(-np.sqrt(3), 2 * np.sqrt(3))}


@functools.partial(jax.jit, static_argnums=(0, 2))
def draw(name: str, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return getattr(random, name)(key, shape)


def drawn(name: str, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.asarray(draw(name, jax.random.key(seed), shape))


def test_fan_in_is_what_an_output_sums() -> None:
    assert random.fan_in(SHAPE) == INPUTS
    assert random.fan_in((60, 50)) == 60
    assert random.fan_in((7, 3, 5)) == 21


@pytest.mark.parametrize("name", SOURCES)
def test_variance_is_two_over_fan_in(name: str) -> None:
    weights = drawn(name)
    assert weights.shape == SHAPE
    assert weights.dtype == np.float32
    spread = {"signs": 0, "orthogonal": 0, "uniform": 0.8, "gaussian": 2}[name]  # kurtosis - 1
    tolerance = 1e-5 + 4 * np.sqrt(spread / weights.size)
    np.testing.assert_allclose(np.mean(weights**2), 2 / INPUTS, rtol=tolerance)
    assert abs(weights.mean()) < 4 * np.sqrt(2 / INPUTS / weights.size)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution(name: str) -> None:
    scaled = drawn(name).ravel() / np.sqrt(2 / INPUTS)
    assert scipy.stats.kstest(scaled, DISTRIBUTIONS[name].cdf).pvalue > 1e-3


def test_signs_have_one_magnitude_and_both_signs() -> None:
    weights = drawn("signs")
    np.testing.assert_allclose(np.abs(weights), np.sqrt(2 / INPUTS), rtol=1e-6)
    positive = (weights > 0).mean()
    assert abs(positive - 0.5) < 4 * 0.5 / np.sqrt(weights.size)


def test_orthogonal_filters_have_length_root_two() -> None:
    matrix = drawn("orthogonal").reshape(INPUTS, 40)
    np.testing.assert_allclose(matrix.T @ matrix, 2 * np.eye(40), atol=1e-5)


def test_more_filters_than_inputs_have_orthogonal_inputs() -> None:
    matrix = drawn("orthogonal", (3, 3, 1, 20)).reshape(9, 20)
    np.testing.assert_allclose(matrix @ matrix.T, 2 * 20 / 9 * np.eye(9), atol=1e-5)
    np.testing.assert_allclose(np.mean(matrix**2), 2 / 9, rtol=1e-5)


def test_orthogonal_draw_has_no_preferred_sign() -> None:
    draws = [drawn("orthogonal", (1, 1), seed).item() for seed in range(16)]
    assert {round(draw, 5) for draw in draws} == {round(np.sqrt(2), 5), -round(np.sqrt(2), 5)}


@pytest.mark.parametrize("shape", [(9, 4, 16), (5, 6, 2, 8), (4, 3, 5, 2, 6)])
def test_smoothed_filters_have_low_frequencies_and_one_scale(shape: tuple[int, ...]) -> None:
    axes = tuple(range(len(shape) - 2))
    frequencies = np.meshgrid(*[np.fft.fftfreq(16) for _ in axes], indexing="ij")
    high = np.max(np.abs(frequencies), axis=0) > 0.25  # cycles a pixel: half the Nyquist frequency

    weights = drawn("smoothed", shape)
    power = np.abs(np.fft.fftn(weights, (16,) * len(axes), axes=axes)) ** 2
    assert power[high].sum() / power.sum() < 0.5 * high.mean()  # which is the share of white noise
    assert weights.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(weights.reshape(-1, shape[-1]), axis=0), np.sqrt(2), rtol=1e-5)


@pytest.mark.parametrize("size", [5, 12])
def test_smoothed_filters_have_the_stated_mix_of_cosines(size: int) -> None:
    cosines = scipy.fft.dct(drawn("smoothed", (size, 16, 64)), axis=0, norm="ortho").reshape(size, -1)
    amplitudes = np.sqrt(np.mean(cosines**2, axis=1))
    np.testing.assert_allclose(
        amplitudes[1:4] / amplitudes[0], np.exp(-((np.pi * np.arange(1, 4) / 4) ** 2) / 2), rtol=0.1
    )
    correlations = np.corrcoef(cosines)[np.triu_indices(size, 1)]  # none, if the border mirrors
    assert np.abs(correlations).max() < 5 / np.sqrt(cosines.shape[1])


def test_smoothed_filters_of_one_element_are_gaussian_directions() -> None:
    weights = drawn("smoothed", (1, 1, 3, 400)).reshape(3, 400) / np.sqrt(2)
    assert scipy.stats.kstest(weights[0], scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3  # Archimedes
    np.testing.assert_allclose(np.abs(drawn("smoothed", (1, 64))), np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("name", [*SOURCES, "smoothed"])
def test_draw_changes_with_the_key_and_not_without(name: str) -> None:
    np.testing.assert_array_equal(drawn(name), drawn(name))
    assert (drawn(name) != drawn(name, seed=1)).mean() > 0.3
