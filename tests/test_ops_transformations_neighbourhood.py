"""Blur and stroke weight against SciPy's Gaussian and grey morphology."""

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from cnnjax.ops.transformations import blur, stroke_weight


def pixels(dimensions: int, seed: int = 0) -> np.ndarray:
    shape = (2, *(5, 4, 3)[:dimensions], 2)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


@given(
    st.integers(1, 3),
    st.sampled_from([("circular", "grid-wrap"), ("zeros", "grid-constant"), ("edge", "nearest")]),
    st.floats(0.125, 2, width=32),
)
@example(1, ("edge", "nearest"), 0.25)
def test_blur_is_that_of_scipy(dimensions: int, modes: tuple, sigma: float) -> None:
    x = pixels(dimensions)
    axes = tuple(range(1, dimensions + 1))
    expected = ndimage.gaussian_filter(x, sigma, mode=modes[1], radius=6, axes=axes)
    found = jax.jit(lambda x, m: blur(x, m, radius=6, border=modes[0]))(x, np.array([sigma, 0], np.float32))
    np.testing.assert_allclose(found[0], expected[0], atol=0.02)
    np.testing.assert_array_equal(found[1], x[1])


def test_blur_s_slope_starts_from_0() -> None:
    x = pixels(2)
    slopes = jax.jit(lambda m: jax.jvp(lambda m: blur(x, m, radius=2), (m,), (1.0,))[1])
    for sigma in (0.0, 1e-6, 0.02, 0.05):
        np.testing.assert_array_equal(slopes(sigma), np.zeros_like(x))
    assert np.max(np.abs(slopes(0.5))) > 10


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_strokes_of_whole_pixels_are_scipy_s_morphology(dimensions: int) -> None:
    x = pixels(dimensions)
    change = jax.jit(lambda x, m: stroke_weight(x, m, max_radius=2))
    for radius in (1, 2):
        size = (1, *[2 * radius + 1] * dimensions, 1)
        thick, thin = ndimage.grey_dilation(x, size), ndimage.grey_erosion(x, size)
        np.testing.assert_array_equal(change(x, np.float32(radius)), thick)
        np.testing.assert_array_equal(change(x, np.float32(-radius)), thin)
    once = (1, *[3] * dimensions, 1)
    between = 0.75 * ndimage.grey_dilation(x, once) + 0.25 * thick
    np.testing.assert_allclose(change(x, np.float32(1.25)), between, rtol=1e-6)
    np.testing.assert_array_equal(change(x, np.float32(5)), thick)


def test_slope_of_the_stroke_at_0_is_half_the_morphological_gradient() -> None:
    x = pixels(2)
    slope = jax.jvp(lambda m: stroke_weight(x, m, max_radius=1), (0.0,), (1.0,))[1]
    size = (1, 3, 3, 1)
    np.testing.assert_array_equal(slope, ndimage.morphological_gradient(x, size) / 2)


def test_bad_input_is_said() -> None:
    x = pixels(2)
    with pytest.raises(ValueError, match="radius of a blur is positive; given 0"):
        blur(x, 1.0, radius=0)
    with pytest.raises(ValueError, match="unknown border 'reflect'; there are: circular, zeros, edge"):
        blur(x, 1.0, border="reflect")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="greatest radius of a stroke's change is positive; given 0"):
        stroke_weight(x, 1.0, max_radius=0)
