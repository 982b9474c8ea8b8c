"""Brightness, contrast and gamma against their formulas, in pixels of any range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.transformations import brightness, contrast, gamma
from cnnjax.ops.transformations.photometric import add_legally

RANGES = [(0.0, 255.0), (-1.0, 1.0), (0.0, 1.0)]

COMPILED = [jax.jit(f, static_argnames=("low", "high")) for f in (brightness, contrast, gamma)]


def pixels(low: float, high: float) -> np.ndarray:
    """Both bounds among them."""
    u = np.clip(np.random.default_rng(0).uniform(-0.2, 1.2, (2, 4, 3, 2)), 0, 1)
    return (low + (high - low) * u).astype(np.float32)


@given(st.sampled_from(RANGES), st.floats(-1, 1, width=32))
def test_formulas(bounds: tuple[float, float], m: float) -> None:
    low, high = bounds
    x, span = pixels(low, high), high - low
    tolerance = 1e-5 * span
    bright, strong, dark = (f(x, m, low, high) for f in COMPILED)
    np.testing.assert_allclose(bright, np.clip(x + m * span, low, high), atol=tolerance)
    mean = x.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(strong, np.clip(mean + (1 + m) * (x - mean), low, high), atol=tolerance)
    u = (x - np.float64(low)) / span
    np.testing.assert_allclose(dark, low + span * u ** (2.0**m), atol=tolerance)


def test_known_cases() -> None:
    x = np.array([0, 0.25, 1], np.float32).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(gamma(x, 1, 0, 1).ravel(), [0, 1 / 16, 1], rtol=1e-6)
    np.testing.assert_allclose(gamma(x, -1, 0, 1).ravel(), [0, 0.5, 1], rtol=1e-6)
    np.testing.assert_array_equal(brightness(x, 1, 0, 1).ravel(), [1, 1, 1])
    np.testing.assert_array_equal(brightness(x, -1, 0, 1).ravel(), [0, 0, 0])
    grey = contrast(x, -1, 0, 1)
    np.testing.assert_allclose(grey, np.full_like(x, x.mean()), rtol=1e-6)
    signal = np.array([[[0.5], [-2]]], np.float32)
    np.testing.assert_allclose(brightness(signal, 0.25, -2, 2).ravel(), [1.5, -1])


@pytest.mark.parametrize("bounds", RANGES)
def test_magnitude_0_is_the_identity_in_any_range_and_its_derivative_is_the_identity(
    bounds: tuple[float, float],
) -> None:
    low, high = bounds
    x = pixels(low, high)
    # Pixels beyond the bounds, too, stay as they are.
    x[0, 0, 0], x[0, 1, 1] = high + 1, low - 1
    ones = np.ones_like(x)
    for function in (brightness, contrast, gamma):
        value, tangent = jax.jvp(lambda x, f=function: f(x, 0.0, low, high), (x,), (ones,))
        assert np.asarray(value).tobytes() == x.tobytes()
        np.testing.assert_array_equal(tangent, ones)


def test_derivatives_of_clipping() -> None:
    image = jnp.array([0.0, 0.5, 1.0, 0.5]).reshape(1, 4, 1)
    change = jnp.array([0.0, 0.5, -0.25, 0.75]).reshape(1, 4, 1)
    ones = jnp.ones_like(image)
    value = add_legally(image, change, 0, 1)
    by_change = jax.jvp(lambda c: add_legally(image, c, 0, 1), (change,), (ones,))[1]
    by_image = jax.jvp(lambda x: add_legally(x, change, 0, 1), (image,), (ones,))[1]
    np.testing.assert_array_equal(value.ravel(), [0, 1, 0.75, 1])
    np.testing.assert_array_equal(by_change.ravel(), [0.5, 0.5, 1, 0])
    np.testing.assert_array_equal(by_image.ravel(), [1, 1, 1, 0])


def test_bad_bounds_are_said() -> None:
    for low, high in [(1.0, 1.0), (0.0, float("inf"))]:
        with pytest.raises(ValueError, match="low < high; given"):
            contrast(pixels(0, 1), 0.5, low, high)
