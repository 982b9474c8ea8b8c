"""Resampling against SciPy's interpolation, exact cases, and slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cnnjax.ops.transformations import Interpolation, WarpBorder, resample
from cnnjax.ops.transformations.warps import hat

MODES: dict[WarpBorder, str] = {"circular": "grid-wrap", "zeros": "grid-constant", "edge": "nearest"}


def whole(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float32)


look = jax.jit(resample, static_argnames=("border", "interpolation"))


@given(st.integers(1, 3), st.integers(0, 99))
def test_linear_values_are_those_of_scipy(dimensions: int, seed: int) -> None:
    border = list(MODES)[dimensions % 3]
    spatial = (5, 4, 3)[:dimensions]
    x = whole((2, *spatial, 2), seed)
    # Also far outside; eighths make the sums exact.
    places = np.random.default_rng(seed).integers(-60, 90, (dimensions, 2, 6)).astype(np.float32) / 8
    found = look(x, list(places), border=border)
    expected = [
        [ndimage.map_coordinates(x[n, ..., c], places[:, n], order=1, mode=MODES[border]) for c in range(2)]
        for n in range(2)
    ]
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), atol=1e-4)


@pytest.mark.parametrize("border", list(MODES))
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_whole_coordinates_give_the_elements_themselves(border: WarpBorder, interpolation: Interpolation) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 1)).astype(np.float32)
    rows, columns = np.meshgrid(np.arange(-3, 9), np.arange(-4, 8), indexing="ij")
    found = look(x, (rows[None], columns[None]), border=border, interpolation=interpolation)
    pads = ((0, 0), (3, 5), (4, 5), (0, 0))
    mode = {"circular": "wrap", "zeros": "constant", "edge": "edge"}[border]
    np.testing.assert_array_equal(found, np.pad(x, pads, mode=mode))


def test_cubic_values_are_those_of_the_published_kernel() -> None:
    """Keys 1981, equation 4 with a = -1/2, as a sum over all elements."""

    def kernel(s: np.ndarray) -> np.ndarray:
        s = np.abs(s)
        inner, outer = 1.5 * s**3 - 2.5 * s**2 + 1, -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2
        return np.where(s < 1, inner, np.where(s < 2, outer, 0))

    x = whole((1, 9, 1), 1)
    places = np.linspace(-3, 11, 57, dtype=np.float32)
    found = look(x, (places[None],), interpolation="cubic")
    expected = kernel(places[:, None] - np.arange(9)) @ x[0]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    # It reproduces parabolas.
    parabola = (np.arange(9, dtype=np.float32) ** 2)[None, :, None]
    inside = look(parabola, (np.float32([[2.25, 4.5, 6.75]]),), interpolation="cubic")
    np.testing.assert_allclose(inside[0, :, 0], [2.25**2, 4.5**2, 6.75**2], rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_slope_at_whole_coordinates_is_the_central_difference(interpolation: Interpolation) -> None:
    x = whole((1, 7, 1), 2)
    places = jnp.arange(7.0)[None]

    @jax.jit
    def at(places: jax.Array) -> jax.Array:
        return resample(x, (places,), border="circular", interpolation=interpolation)

    slope_at = jax.jit(lambda places: jax.jvp(at, (places,), (jnp.ones_like(places),))[1])
    slope = slope_at(places)
    np.testing.assert_array_equal(slope[0], (np.roll(x[0], -1, 0) - np.roll(x[0], 1, 0)) / 2)
    between = slope_at(places + 0.25)
    step = 1 / 16
    expected = (at(places + 0.25 + step) - at(places + 0.25 - step)) / (2 * step)
    # The symmetric difference of a cubic is off by its third derivative times step squared over 6.
    np.testing.assert_allclose(between, expected, atol=0 if interpolation == "linear" else 0.2)


def test_gradient_by_the_elements_is_the_transpose() -> None:
    x, cotangent = whole((1, 4, 3, 1), 3), whole((1, 5, 1), 4)
    places = list(whole((2, 1, 5), 5) / 4)

    def weigh(x: jax.Array) -> jax.Array:
        return jnp.sum(cotangent * resample(x, places, border="edge"))

    basis = np.eye(12, dtype=np.float32).reshape(12, 4, 3)
    at = np.stack(places)[:, 0]
    rows = [ndimage.map_coordinates(e, at, order=1, mode="nearest") for e in basis]
    np.testing.assert_allclose(jax.jit(jax.grad(weigh))(x).ravel(), np.stack(rows) @ cotangent[0, :, 0], atol=1e-4)


def test_hat_has_the_mean_slope_at_its_kinks() -> None:
    places = jnp.array([-2, -1, -0.5, 0, 0.5, 1, 2])
    value, slope = jax.jvp(hat, (places,), (jnp.ones(7),))
    np.testing.assert_array_equal(value, [0, 0, 0.5, 1, 0.5, 0, 0])
    np.testing.assert_array_equal(slope, [0, 0.5, 1, 0, -1, -0.5, 0])


def test_bad_input_is_said() -> None:
    x, place = jnp.zeros((1, 4, 1)), jnp.zeros((1, 2))
    with pytest.raises(ValueError, match="unknown border 'wrap'; there are: circular, zeros, edge"):
        resample(x, (place,), border="wrap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown interpolation 'nearest'; there are: linear, cubic"):
        resample(x, (place,), interpolation="nearest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"1 coordinates are needed .* given 2"):
        resample(x, (place, place))
    with pytest.raises(ValueError, match="floating point"):
        resample(x.astype(jnp.int32), (place,))
