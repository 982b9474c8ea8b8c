"""Random fields' statistics, and images deformed by them."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from cnnjax.ops.transformations import elastic, smooth_field

draw = jax.jit(smooth_field, static_argnums=(1, 2, 3, 4))


def test_fields_have_variance_1_everywhere_and_the_stated_correlation() -> None:
    smoothness = 1.5
    field = np.asarray(draw(jax.random.key(0), 4000, (3, 8), 2, smoothness))
    assert field.shape == (4000, 3, 8, 2)
    np.testing.assert_allclose(field.mean(0), 0, atol=0.07)
    np.testing.assert_allclose(field.var(0), 1, atol=0.1)
    for apart in (1, 3):
        correlation = np.mean(field[:, :, apart:] * field[:, :, :-apart])
        np.testing.assert_allclose(correlation, np.exp(-((apart / smoothness) ** 2) / 4), atol=0.03)
    assert abs(np.mean(field[..., 0] * field[..., 1])) < 0.03
    assert abs(np.mean(field[1:] * field[:-1])) < 0.03


def test_pixels_are_displaced_by_the_field() -> None:
    x = np.random.default_rng(0).uniform(0, 255, (2, 6, 5, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(2), 2)
    found = jax.jit(functools.partial(elastic, smoothness=2))(x, np.array([1.5, -0.5]), keys)
    field = np.asarray(draw(keys, 2, (6, 5), 2, 2))
    grid = np.indices((6, 5))
    for n, magnitude in enumerate([1.5, -0.5]):
        at = grid + magnitude * np.moveaxis(field[n], -1, 0)
        expected = ndimage.map_coordinates(x[n, ..., 0], at, order=1, mode="grid-constant")
        np.testing.assert_allclose(found[n, ..., 0], expected, atol=0.02)


def test_smoothness_is_positive() -> None:
    with pytest.raises(ValueError, match="smoothness of a random field is positive; given 0"):
        elastic(np.zeros((1, 3, 3, 1), np.float32), 1.0, jax.random.key(0), smoothness=0)
