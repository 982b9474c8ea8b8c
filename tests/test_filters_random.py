"""Random filters: one scale for all, and the law of each."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest
import scipy.stats

from cnnjax.filters import random

CONVOLUTION, DENSE = (3, 3, 8, 40), (60, 50)
SOURCES = {name: getattr(random, name) for name in ("gaussian", "uniform", "signs", "orthogonal")}
DISTRIBUTIONS = {"gaussian": scipy.stats.norm(), "uniform": scipy.stats.uniform(-np.sqrt(3), 2 * np.sqrt(3))}


@functools.cache
def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(jax.jit(SOURCES[name], static_argnums=1)(jax.random.key(0), shape))


def test_fan_in_is_what_an_output_sums() -> None:
    assert random.fan_in(CONVOLUTION) == 72
    assert random.fan_in(DENSE) == 60
    assert random.fan_in((7, 3, 5)) == 21


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("shape", "inputs"), [(CONVOLUTION, 72), (DENSE, 60)])
def test_variance_is_two_over_fan_in(name: str, shape: tuple[int, ...], inputs: int) -> None:
    weights = drawn(name, shape)
    assert weights.shape == shape
    assert weights.dtype == np.float32
    spread = {"signs": 0, "orthogonal": 0, "uniform": 0.8, "gaussian": 2}[name]  # kurtosis - 1
    tolerance = 1e-5 + 4 * np.sqrt(spread / weights.size)
    np.testing.assert_allclose(np.mean(weights**2), 2 / inputs, rtol=tolerance)
    assert abs(weights.mean()) < 4 * np.sqrt(2 / inputs / weights.size)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution(name: str) -> None:
    scaled = drawn(name, CONVOLUTION).ravel() / np.sqrt(2 / 72)
    assert scipy.stats.kstest(scaled, DISTRIBUTIONS[name].cdf).pvalue > 1e-3


def test_signs_have_one_magnitude_and_both_signs() -> None:
    weights = drawn("signs", CONVOLUTION)
    np.testing.assert_allclose(np.abs(weights), np.sqrt(2 / 72), rtol=1e-6)
    positive = (weights > 0).mean()
    assert abs(positive - 0.5) < 4 * 0.5 / np.sqrt(weights.size)


@pytest.mark.parametrize("shape", [CONVOLUTION, DENSE, (3, 3, 1, 20)])
def test_orthogonal_filters_or_inputs(shape: tuple[int, ...]) -> None:
    matrix = drawn("orthogonal", shape).reshape(-1, shape[-1])
    inputs, outputs = matrix.shape
    products = matrix.T @ matrix if inputs >= outputs else matrix @ matrix.T
    squared_length = 2 if inputs >= outputs else 2 * outputs / inputs
    np.testing.assert_allclose(products, squared_length * np.eye(len(products)), atol=1e-5)


def test_orthogonal_draw_has_no_preferred_sign() -> None:
    draw = jax.vmap(lambda key: random.orthogonal(key, (3, 3)))
    matrices = np.asarray(jax.jit(draw)(jax.random.split(jax.random.key(1), 500)))
    assert np.abs(matrices.mean(0)).max() < 5 * np.sqrt(2 / 3 / 500)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_draw_changes_with_the_key_and_not_without(source: Callable[[jax.Array, tuple[int, ...]], jax.Array]) -> None:
    draw = jax.jit(source, static_argnums=1)
    first, again, other = (np.asarray(draw(jax.random.key(seed), (5, 4))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
