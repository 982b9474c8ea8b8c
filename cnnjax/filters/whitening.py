"""Whitening: the linear map after which patches have variance 1 in all directions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Whitening(NamedTuple):
    """Whitened patches are (patches - mean) @ matrix.

    Attributes:
      mean: [n] float32.
      matrix: [n, n] float32, symmetric.
    """

    mean: jax.Array
    matrix: jax.Array


def covariance(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean [n] of patches [M, n] and their covariance [n, n], over M."""
    mean = jnp.mean(patches, axis=0)
    centred = patches - mean
    return mean, jnp.matmul(centred.T, centred, precision=lax.Precision.HIGHEST) / len(patches)


@jax.jit
def zca_whitening(patches: jax.Array, epsilon: float) -> Whitening:
    """The symmetric whitening V (D + e I)^(-1/2) V' of patches with covariance V D V' (Bell and Sejnowski 1997).

    Of all whitenings it is the one that changes the patches least.

    Args:
      patches: [M, n] float32.
      epsilon: at least 0; e is so many times the mean of the eigenvalues D, so that the data's scale does not matter.
        With 0 the whitened patches' covariance is the identity, but for directions in which the patches do not vary:
        these are mapped to 0.
    """
    mean, matrix = covariance(patches)
    eigenvalues, eigenvectors = jnp.linalg.eigh(matrix)
    least = len(eigenvalues) * jnp.finfo(jnp.float32).eps * eigenvalues[-1]  # what rounding leaves of a zero
    regularised = jnp.maximum(eigenvalues, 0) + epsilon * jnp.maximum(jnp.mean(eigenvalues), 0)
    varies = regularised > jnp.maximum(least, 0)
    gains = jnp.where(varies, lax.rsqrt(jnp.where(varies, regularised, 1)), 0)
    return Whitening(mean, jnp.matmul(eigenvectors * gains, eigenvectors.T, precision=lax.Precision.HIGHEST))


def whiten(patches: jax.Array, whitening: Whitening) -> jax.Array:
    """Patches [M, n] whitened, [M, n]."""
    return jnp.matmul(patches - whitening.mean, whitening.matrix, precision=lax.Precision.HIGHEST)
