"""Fixed filters: the analytic properties of each bank, and how a bank fills a kernel."""

import functools
import itertools

import jax
import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.signal
import scipy.stats

from cnnjax.filters import fixed
from cnnjax.ops.kernels import KERNELS

BANKS = {
    "classic": fixed.classic_bank,
    "gabor": fixed.gabor_bank,
    "dct": fixed.dct_basis,
    "gaussian_derivatives": fixed.gaussian_derivative_bank,
}
# In one dimension the banks of 5 have 3 to 12 elements, so they are used again; in the others F is below B.
SHAPES = [(5, 2, 14), (4, 3, 3, 7), (3, 3, 3, 2, 9)]
RNG = np.random.default_rng(0)


@functools.partial(jax.jit, static_argnums=(0, 2))
def draw(name: str, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return getattr(fixed, name)(key, shape)


def drawn(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.asarray(draw(name, jax.random.key(seed), shape))


@functools.partial(jax.jit, static_argnums=1)
def draw_all(key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    return {name: getattr(fixed, name)(key, shape) for name in BANKS}


def normalised(bank: np.ndarray) -> np.ndarray:
    return np.stack([element / np.sqrt(np.sum(element**2)) for element in bank])


@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_is_the_bank_over_and_over_in_directions_of_the_key(shape: tuple[int, ...]) -> None:
    kernels, again, others = (draw_all(jax.random.key(seed), shape) for seed in (0, 0, 1))
    for name, bank in BANKS.items():
        kernel, elements = np.asarray(kernels[name]), normalised(bank(shape[:-2]))
        assert kernel.shape == shape
        assert kernel.dtype == np.float32
        for f in range(shape[-1]):
            element, own = elements[f % len(elements)], kernel[..., f]
            channels = np.tensordot(element, own, element.ndim)
            np.testing.assert_allclose(own, np.multiply.outer(element, channels), atol=1e-6)
            np.testing.assert_allclose(np.linalg.norm(channels), np.sqrt(2), rtol=1e-5)
        np.testing.assert_array_equal(kernel, again[name])
        changed = kernel[kernel != 0] != np.asarray(others[name])[kernel != 0]
        assert changed.mean() > 0.9


def test_directions_in_channel_space_are_uniform() -> None:
    """Archimedes: on the sphere of three dimensions each coordinate is uniform."""
    channels = drawn("dct", (1, 3, 400)).reshape(3, 400) / np.sqrt(2)
    for coordinate in channels:
        assert scipy.stats.kstest(coordinate, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(channels @ channels.T / 400, np.eye(3) / 3, atol=4 / np.sqrt(400) / 3)


def test_one_channel_has_a_random_sign() -> None:
    signs = drawn("dct", (1, 1, 1, 64)).ravel() / np.sqrt(2)
    np.testing.assert_allclose(np.abs(signs), 1, rtol=1e-6)
    assert 16 < (signs > 0).sum() < 48


def test_window_too_small_is_refused_in_one_line() -> None:
    for name, window in itertools.product(("gabor", "gaussian_derivatives"), [(), (1, 1), (2,), (5, 2), (3, 3, 3, 3)]):
        with pytest.raises(ValueError, match="given") as caught:
            getattr(fixed, name)(jax.random.key(0), (*window, 4, 8))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BANKS)
def test_axes_of_size_one_count_for_nothing(name: str) -> None:
    bank = BANKS[name]
    np.testing.assert_allclose(bank((1, 5)), bank((5,))[:, None], atol=1e-12)
    np.testing.assert_allclose(bank((3, 1, 4)), bank((3, 4))[:, :, None], atol=1e-12)


# ---- classic

IN_TWO_DIMENSIONS = [
    *[KERNELS["identity"], KERNELS["difference"], KERNELS["difference"].T, KERNELS["edges"], KERNELS["sobel_columns"]],
    *[KERNELS[name] for name in ("sobel_rows", "sharpen", "sharpen_box", "box", "gaussian_3x3", "gaussian_5x5")],
    *[KERNELS[name] for name in ("unsharp_3x3", "unsharp_5x5", "shift_left")],
    KERNELS["shift_left"].T,
]


@pytest.mark.parametrize("window", [(5, 5), (8, 7)])
def test_classic_kernels_do_the_same_in_any_window(window: tuple[int, int]) -> None:
    image = RNG.integers(0, 10, (9, 10)).astype(np.float64)
    for element, kernel in zip(fixed.classic_bank(window), IN_TWO_DIMENSIONS, strict=True):
        expected = scipy.ndimage.correlate(image, kernel.astype(np.float64), mode="wrap")
        np.testing.assert_allclose(scipy.ndimage.correlate(image, element, mode="wrap"), expected, atol=1e-4)


def test_classic_kernels_that_do_not_fit_are_left_out() -> None:
    bank = fixed.classic_bank((3, 3))
    np.testing.assert_array_equal(bank[1:3], [[[0, 0, 0], [-1, 1, 0], [0, 0, 0]], [[0, -1, 0], [0, 1, 0], [0, 0, 0]]])
    rest = [kernel for kernel in IN_TWO_DIMENSIONS if kernel.shape == (3, 3)]
    np.testing.assert_allclose(bank[[0, *range(3, 13)]], rest, atol=1e-6)
    np.testing.assert_array_equal(fixed.classic_bank((2, 2)), [[[0, 0], [0, 1]], [[0, 0], [-1, 1]], [[0, -1], [0, 1]]])
    np.testing.assert_array_equal(fixed.classic_bank(()), [1])


def test_classic_kernels_in_one_dimension() -> None:
    expected = [
        *[[0, 1, 0], [-1, 1, 0], [-1, 2, -1], [-1, 0, 1], [-1, 3, -1], [-1 / 3, 5 / 3, -1 / 3], [1 / 3] * 3],
        *[[1 / 4, 1 / 2, 1 / 4], [-1 / 4, 3 / 2, -1 / 4], [1, 0, 0]],
    ]
    np.testing.assert_allclose(fixed.classic_bank((3,)), expected, atol=1e-6)


def test_classic_kernels_in_three_dimensions() -> None:
    bank = fixed.classic_bank((5, 5, 5))
    zero = [1, 2, 3, 4, 5, 6, 7]  # differences, edges, Sobel
    np.testing.assert_allclose(bank.sum((1, 2, 3)), [float(i not in zero) for i in range(18)], atol=1e-5)
    ramp = np.einsum("i,jkl->ijkl", [2, 3, 5], np.ones((5, 5, 5))) * (np.indices((5, 5, 5)) - 2)
    slopes = np.tensordot(bank, ramp.sum(0), 3)
    np.testing.assert_allclose(slopes[1:8], [5, 3, 2, 0, 32 * 5, 32 * 3, 32 * 2], atol=1e-4)


# ---- Gabor


@pytest.mark.parametrize(("window", "wavelengths"), [((7,), 3), ((7, 7), 3), ((4, 9), 1), ((5, 5, 5), 2)])
def test_gabor_pairs_peak_at_their_frequency_and_direction(window: tuple[int, ...], wavelengths: int) -> None:
    directions, shortest = fixed.directions(len(window)), min(window)
    bank = normalised(fixed.gabor_bank(window))
    assert len(bank) == 2 * wavelengths * len(directions)
    np.testing.assert_allclose(bank.reshape(len(bank), -1).sum(1), 0, atol=1e-12)
    axes, size = tuple(range(1, len(window) + 1)), 32
    analytic = np.fft.fftn(bank[::2] + 1j * bank[1::2], (size,) * len(window), axes=axes)
    stated = [direction * 2 ** (i / 2) / shortest for i in range(wavelengths) for direction in directions]
    for spectrum, even, odd, frequency in zip(analytic, bank[::2], bank[1::2], stated, strict=True):
        peak = np.array(np.unravel_index(np.abs(spectrum).argmax(), spectrum.shape))
        peak = (peak + size // 2) % size / size - 1 / 2
        # Half a bin, and what taking the mean from a short cosine moves it.
        np.testing.assert_allclose(peak, frequency, atol=0.5 / size + 0.1 * np.linalg.norm(frequency))
        # Even and odd about the middle is a quarter of a period apart at every frequency.
        np.testing.assert_allclose(even, np.flip(even), atol=1e-12)
        np.testing.assert_allclose(odd, -np.flip(odd), atol=1e-12)
        opposite = spectrum[tuple(-np.rint(peak * size).astype(int))]
        assert np.abs(opposite) < 0.25 * np.abs(spectrum).max()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_directions_are_distinct_on_half_a_sphere_axes_first(dimensions: int) -> None:
    directions = fixed.directions(dimensions)
    assert len(directions) == [1, 8, 13][dimensions - 1]
    between = np.abs(directions @ directions.T) - np.eye(len(directions))
    np.testing.assert_allclose(np.diagonal(between), 0, atol=1e-12)
    assert between.max() < 0.93
    np.testing.assert_allclose(directions[:dimensions], np.eye(dimensions), atol=1e-12)


# ---- DCT


@pytest.mark.parametrize("window", [(5,), (3, 4), (3, 3), (2, 3, 4), ()])
def test_dct_basis(window: tuple[int, ...]) -> None:
    basis = fixed.dct_basis(window)
    flat = basis.reshape(len(basis), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(int(np.prod(window))), atol=1e-12)
    np.testing.assert_allclose(basis[0], 1 / np.sqrt(np.prod(window)))
    frequencies = []
    for element in basis:
        coefficients = scipy.fft.dctn(element, norm="ortho") if window else element
        index = np.unravel_index(coefficients.argmax(), window)
        expected = np.zeros(window)
        expected[index] = 1
        np.testing.assert_allclose(coefficients, expected, atol=1e-12)
        frequencies.append(sum((k / n) ** 2 for k, n in zip(index, window, strict=True)))
    assert (np.diff(frequencies) > -1e-12).all()


def test_few_dct_filters_are_the_lowest_frequencies() -> None:
    kernel = drawn("dct", (3, 3, 1, 4))[:, :, 0]
    found = [np.abs(scipy.fft.dctn(kernel[..., f], norm="ortho")).argmax() for f in range(4)]
    assert found == [0, 1, 3, 4]  # (0, 0), (0, 1), (1, 0), (1, 1)


# ---- derivatives of Gaussians


@pytest.mark.parametrize(("window", "sigmas"), [((9,), 2), ((5, 5), 2), ((3, 7), 1), ((3, 3, 3), 1)])
def test_derivatives_of_polynomials(window: tuple[int, ...], sigmas: int) -> None:
    directions = fixed.directions(len(window))
    bank = fixed.gaussian_derivative_bank(window)
    bank = bank.reshape(sigmas, -1, *window)
    assert bank.shape[1] == 1 + 2 * len(directions)
    spread = np.indices([size + 2 for size in window])
    slope = np.array([2.0, -3.0, 5.0])[: len(window)]
    ramp = 7 + np.tensordot(slope, spread, 1)

    def correlated(element: np.ndarray, image: np.ndarray) -> np.ndarray:
        return scipy.signal.correlate(image, element, mode="valid", method="direct")

    for scale in bank:
        assert (scale[0] > 0).all()
        for i, direction in enumerate(directions):
            first, second = scale[1 + 2 * i], scale[2 + 2 * i]
            unit = np.sum(first * np.tensordot(direction, np.indices(window), 1))  # its answer to a slope of 1
            assert unit > 0
            rises = correlated(first, ramp)
            np.testing.assert_allclose(rises, rises.flat[0], atol=1e-9)
            if len(set(window)) == 1 or i < len(window):  # a longer side sees more of its slope, unless across an axis
                np.testing.assert_allclose(rises, unit * (slope @ direction), atol=1e-9)
            np.testing.assert_allclose(correlated(second, ramp), 0, atol=1e-9)
            parabola = correlated(second, np.tensordot(direction, spread, 1) ** 2)
            np.testing.assert_allclose(parabola, parabola.flat[0])
            assert parabola.flat[0] > 0


def test_derivatives_where_they_are_well_sampled_are_the_continuous_ones() -> None:
    bank = normalised(fixed.gaussian_derivative_bank((21, 21)))[17:]  # the second sigma, 21 / 8
    x, y = np.indices((21, 21)) - 10
    gaussian = np.exp(-(x**2 + y**2) / (2 * (21 / 8) ** 2))
    diagonal = (x + y) / np.sqrt(2)
    expected = [gaussian, x * gaussian, (x**2 - (21 / 8) ** 2) * gaussian, diagonal * gaussian]
    for element, formula in zip(bank[[0, 1, 2, 5]], normalised(np.stack(expected)), strict=True):
        np.testing.assert_allclose(element, formula, atol=1e-3)


# ---- Dirac


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 4, 4, 2), (3, 3, 2, 3, 5), (4, 6)])
def test_dirac_passes_channels_on(shape: tuple[int, ...]) -> None:
    *window, channels, features = shape
    kernel = drawn("dirac", shape)
    assert kernel.dtype == np.float32
    image = RNG.normal(size=(*[4] * len(window), channels))
    passed = []
    for f in range(features):
        if window:
            maps = [scipy.ndimage.correlate(image[..., c], kernel[..., c, f]) for c in range(channels)]
        else:
            maps = [image[c] * kernel[c, f] for c in range(channels)]
        equal = [c for c in range(channels) if np.array_equal(sum(maps), image[..., c])]
        assert len(equal) == 1
        passed += equal
    assert len(set(passed[:channels])) == min(channels, features)
    assert passed[channels:] == passed[: max(features - channels, 0)]
    np.testing.assert_array_equal(kernel, drawn("dirac", shape))


def test_dirac_permutation_changes_with_the_key() -> None:
    assert (drawn("dirac", (3, 4, 6)) != drawn("dirac", (3, 4, 6), seed=1)).any()
