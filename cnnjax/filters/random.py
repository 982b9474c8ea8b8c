"""Random filters. All have variance 2 / fan-in (He 2015), so that arms differ in distribution and not in scale.

Those of other scales (Glorot, He, LeCun) are `cnnjax.layers.initialisers.INITIALISERS`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


def fan_in(shape: tuple[int, ...]) -> int:
    """How many inputs each output of a kernel [*window, in, out] sums."""
    return math.prod(shape[:-1])


def gaussian(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent normal weights."""
    return math.sqrt(2 / fan_in(shape)) * jax.random.normal(key, shape)


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent weights, uniform over an interval around 0."""
    bound = math.sqrt(6 / fan_in(shape))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def signs(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Independent weights of one magnitude and random sign."""
    return math.sqrt(2 / fan_in(shape)) * jax.random.rademacher(key, shape, jnp.float32)


def orthogonal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Filters that are orthogonal to one another, as vectors of their inputs (Saxe 2013).

    Where there are more filters than inputs they cannot be: then the inputs' vectors of weights are orthogonal. The
    mean square of the weights is 2 / fan-in exactly.
    """
    inputs, outputs = fan_in(shape), shape[-1]
    tall = jax.random.normal(key, (max(inputs, outputs), min(inputs, outputs)))
    basis, triangle = jnp.linalg.qr(tall)
    basis = basis * jnp.sign(jnp.diagonal(triangle))  # makes the draw uniform over all such bases
    matrix = basis if inputs >= outputs else basis.T
    return math.sqrt(2 * max(inputs, outputs) / inputs) * matrix.reshape(shape)


def smoothed(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Low-frequency filters: normal weights smoothed over the window, each filter's mean square 2 / fan-in exactly.

    The noise is smoothed along each axis by a Gaussian of sigma a quarter of the window's size, mirrored at the border.
    A window of any size thus has about the same mix: its k-th cosine (DCT-II) along an axis has an amplitude of
    exp(-(pi k / 4)^2 / 2) of the constant's: 0.73, 0.29 and 0.06 for k = 1, 2 and 3. One element is not smoothed.
    """
    # A tenth of a second to load, for this source alone.
    from scipy import ndimage

    weights = jax.random.normal(key, shape)
    for axis, size in enumerate(shape[:-2]):
        matrix = ndimage.gaussian_filter1d(np.eye(size, dtype=np.float32), size / 4, axis=0, mode="reflect")
        weights = jnp.moveaxis(jnp.tensordot(matrix, weights, (1, axis), precision="highest"), 0, axis)
    norms = jnp.linalg.norm(weights.reshape(-1, shape[-1]), axis=0)
    return math.sqrt(2) * weights / norms
