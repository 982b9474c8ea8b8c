"""Random filters: one scale for all, and the law of each."""

import functools

import jax
import numpy as np
import pytest
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


@pytest.mark.parametrize("name", SOURCES)
def test_draw_changes_with_the_key_and_not_without(name: str) -> None:
    np.testing.assert_array_equal(drawn(name), drawn(name))
    assert (drawn(name) != drawn(name, seed=1)).mean() > 0.3
