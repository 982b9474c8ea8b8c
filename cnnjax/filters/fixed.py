"""Fixed filters: banks known from image processing, laid over the channels at random.

A bank is B filters of the window alone, [B, *window]. `fill` makes a kernel [*window, channels in, features] of it:

- Feature f takes element f mod B: the first of the bank where there are fewer features, the whole bank again and again
  where there are more. Each bank starts with its coarsest or simplest filters.
- Its weights are that element times a direction in the space of channels, drawn uniformly from the unit sphere (with
  one channel, a random sign). Nothing else of the kernel changes with the key.
- Its norm is sqrt(2), so the mean square of the weights is 2 / fan-in, as in `cnnjax.filters.random`: arms differ in
  direction and not in scale. `dirac` alone has norm 1, to pass channels on as they are.

An axis of the window of size 1 counts for nothing: a window of 1 x 7 takes the bank in one dimension. A dense kernel
[in, features] has a window of one element.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.kernels import binomial, box, identity

# Below these the samples no longer resemble what they are samples of.
_LEAST_WINDOW = 3
_LEAST_WAVELENGTH = 3.0
_LEAST_SIGMA = 0.6

# Standard deviation over wavelength of a Gabor function whose half-amplitude bandwidth is one octave.
_ONE_OCTAVE = 3 / math.pi * math.sqrt(math.log(2) / 2)


def fill(key: jax.Array, bank: np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    """The kernel [*window, channels in, features], float32, of a bank [B, *window]; see the module."""
    channels, features = shape[-2:]
    flat = bank.reshape(len(bank), -1)
    unit = (flat / np.linalg.norm(flat, axis=1, keepdims=True)).reshape(bank.shape)
    chosen = np.moveaxis(unit[np.arange(features) % len(bank)], 0, -1)
    mixture = jax.random.normal(key, (channels, features))
    mixture = mixture / jnp.linalg.norm(mixture, axis=0)
    return math.sqrt(2) * jnp.asarray(chosen, jnp.float32)[..., None, :] * mixture


def classic(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Filters [*window, channels in, features], float32, of `classic_bank`."""
    return fill(key, classic_bank(shape[:-2]), shape)


def gabor(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Filters [*window, channels in, features], float32, of `gabor_bank`; it raises ValueError for a small window."""
    return fill(key, gabor_bank(shape[:-2]), shape)


def dct(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Filters [*window, channels in, features], float32, of `dct_basis`, lowest frequencies first."""
    return fill(key, dct_basis(shape[:-2])[: shape[-1]], shape)


def gaussian_derivatives(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Filters [*window, channels in, features], float32, of `gaussian_derivative_bank`.

    Raises:
      ValueError: if the window is too small for them.
    """
    return fill(key, gaussian_derivative_bank(shape[:-2]), shape)


def dirac(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Filters [*window, channels in, features], float32, that pass channels on: PyTorch's `dirac_`, channels shuffled.

    Feature f has 1 at the window's centre (index size // 2) in channel p(f mod channels in), p a permutation drawn from
    the key, and 0 elsewhere. With one channel the key changes nothing.
    """
    *window, channels, features = shape
    passed = jax.random.permutation(key, channels)[jnp.arange(features) % channels]
    centre = tuple(size // 2 for size in window)
    return jnp.zeros(shape, jnp.float32).at[centre].set(jax.nn.one_hot(passed, channels, axis=0, dtype=jnp.float32))


def classic_bank(window: tuple[int, ...]) -> np.ndarray:
    """The lectures' kernels (`cnnjax.ops.kernels`) in any number of dimensions, centred in the window: [B, *window].

    In the order of `KERNELS`; what looks along an axis is there once for each, the last axis first. Each keeps its own
    size of 1 to 5 elements, with zeros around it; those that do not fit in the window are left out.
    """
    sizes = _long_axes(window)
    fitting = [kernel for kernel in _classic_kernels(len(sizes)) if all(np.less_equal(kernel.shape, sizes))]
    return np.stack([_centred(kernel, sizes) for kernel in fitting]).reshape(-1, *window)


def _classic_kernels(dimensions: int) -> list[np.ndarray]:
    def along(axis: int, line: list[int], across: list[int]) -> np.ndarray:
        return functools.reduce(
            np.multiply.outer, [line if i == axis else across for i in range(dimensions)], np.ones(())
        )

    axes = range(dimensions - 1, -1, -1)
    one, mean, blur, wide_blur = (
        kernel.astype(np.float64)
        for kernel in (identity(3, dimensions), box(3, dimensions), binomial(3, dimensions), binomial(5, dimensions))
    )
    return [
        identity(1, dimensions),
        *[along(axis, [-1, 1], [1]) for axis in axes],
        3**dimensions * (one - mean),
        *[along(axis, [-1, 0, 1], [1, 2, 1]) for axis in axes],
        one + sum(along(axis, [-1, 2, -1], [0, 1, 0]) for axis in axes),
        2 * one - mean,
        mean,
        blur,
        wide_blur,
        2 * one - blur,
        2 * identity(5, dimensions) - wide_blur,
        *[along(axis, [1, 0, 0], [0, 1, 0]) for axis in axes],
    ]


def _centred(kernel: np.ndarray, window: tuple[int, ...]) -> np.ndarray:
    before = [size // 2 - own // 2 for size, own in zip(window, kernel.shape, strict=True)]
    margins = [(low, size - own - low) for low, size, own in zip(before, window, kernel.shape, strict=True)]
    return np.pad(kernel, margins)


def gabor_bank(window: tuple[int, ...]) -> np.ndarray:
    """Gaussian times wave (Gabor 1946, Daugman 1985), in quadrature pairs: [B, *window], each element's sum 0.

    In order of wavelength, then direction, then phase: cosine, sine. Wavelengths are the window's shortest side n (of
    the axes longer than 1) and that divided by half octaves, down to 3 pixels: one for n = 3, two for 5, three for 7,
    four for 11. Directions are `directions`. The Gaussian is round, of sigma = 0.56 wavelengths (a bandwidth of one
    octave) but at most n / 3. From the cosine a multiple of the Gaussian is taken, so that its sum is 0 (Morlet).

    Raises:
      ValueError: if an axis of the window is 2 long or all are 1, or more than three are longer than 1.
    """
    positions = _positions(window, "a Gabor bank")
    size = min(positions.shape[1:])
    count = 1 + math.floor(2 * math.log2(size / _LEAST_WAVELENGTH))
    bank = []
    for wavelength in [size / 2 ** (i / 2) for i in range(count)]:
        envelope = _gaussian(positions, min(_ONE_OCTAVE * wavelength, size / 3))
        for direction in directions(len(positions)):
            phase = 2 * math.pi / wavelength * np.tensordot(direction, positions, 1)
            bank += [_without_mean(np.cos(phase), envelope), envelope * np.sin(phase)]
    return np.stack(bank).reshape(-1, *window)


def gaussian_derivative_bank(window: tuple[int, ...]) -> np.ndarray:
    """A Gaussian and its first and second derivatives along `directions`: [B, *window] (Koenderink, van Doorn 1987).

    In order of sigma, then direction, then order; the Gaussian itself opens each sigma. Sigmas are a quarter of the
    window's shortest side (of the axes longer than 1) and that divided by octaves, down to 0.6 pixels. Correlated, the
    first derivative is positive where the image rises. The second has the sampled Gaussian's own variance in place of
    sigma^2, so that it gives 0 on constants and ramps although it is sampled and cut off.

    Raises:
      ValueError: as `gabor_bank`.
    """
    positions = _positions(window, "a bank of derivatives of Gaussians")
    widest = min(positions.shape[1:]) / 4
    bank = []
    for sigma in [widest / 2**i for i in range(1 + math.floor(math.log2(widest / _LEAST_SIGMA)))]:
        gaussian = _gaussian(positions, sigma)
        bank.append(gaussian)
        for direction in directions(len(positions)):
            along = np.tensordot(direction, positions, 1)
            bank += [along * gaussian, _without_mean(along**2, gaussian)]
    return np.stack(bank).reshape(-1, *window)


def dct_basis(window: tuple[int, ...]) -> np.ndarray:
    """The orthonormal basis of the discrete cosine transform (DCT-II, Ahmed 1974): [prod(window), *window].

    In order of frequency sum_i (k_i / n_i)^2, and of the index k, last axis fastest, where frequencies are equal. The
    first is constant.
    """
    lines = [_cosines(size) for size in window]
    common = math.lcm(*window)
    order = sorted(
        itertools.product(*map(range, window)),
        key=lambda index: (sum((k * (common // size)) ** 2 for k, size in zip(index, window, strict=True)), index),
    )
    along = [[line[k] for k, line in zip(index, lines, strict=True)] for index in order]
    return np.stack([functools.reduce(np.multiply.outer, factors, np.ones(())) for factors in along])


def _cosines(size: int) -> np.ndarray:
    """[size, size]: row k is the k-th cosine."""
    k, x = np.ogrid[:size, :size]
    return np.sqrt(np.where(k == 0, 1, 2) / size) * np.cos(math.pi * k * (2 * x + 1) / (2 * size))


def directions(dimensions: int) -> np.ndarray:
    """Unit vectors [M, dimensions], one of each opposite pair, such that the first few are spread.

    In one dimension 1; in two 8, of angle 0, 90, 45, 135, 22.5, 112.5, 67.5 and 157.5 degrees from the first axis
    towards the second; in three 13: the axes, the 6 diagonals of the faces of a cube, and its own 4.

    Raises:
      ValueError: for another number of dimensions.
    """
    if dimensions == 1:
        return np.ones((1, 1))
    if dimensions == 2:
        angles = math.pi / 8 * np.array([0, 4, 2, 6, 1, 5, 3, 7])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if dimensions == 3:
        neighbours = [step for step in itertools.product((1, 0, -1), repeat=3) if step > (0, 0, 0)]
        steps = np.array(sorted(neighbours, key=np.count_nonzero))
        return steps / np.linalg.norm(steps, axis=1, keepdims=True)
    raise ValueError(f"directions are for 1 to 3 dimensions; given {dimensions}")


def _long_axes(window: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in window if size > 1) or (1,)


def _positions(window: tuple[int, ...], bank: str) -> np.ndarray:
    """[D, *sizes]: the coordinates of each element from the window's middle, along the axes longer than 1."""
    sizes = _long_axes(window)
    if min(sizes) < _LEAST_WINDOW:
        raise ValueError(f"{bank} needs a window of at least {_LEAST_WINDOW} along each axis (or 1); given {window}")
    return np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2 for size in sizes], indexing="ij"))


def _gaussian(positions: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp(-np.sum(positions**2, axis=0) / (2 * sigma**2))


def _without_mean(values: np.ndarray, envelope: np.ndarray) -> np.ndarray:
    """The envelope times values from which their mean under it is taken, so that the sum is 0."""
    return envelope * (values - np.average(values, weights=envelope))
