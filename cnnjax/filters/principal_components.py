"""Principal components of patches (PCANet, Chan 2015)."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.filters.whitening import covariance


def principal_components(patches: jax.Array, filters: int) -> jax.Array:
    """The directions in which patches vary most: the leading eigenvectors of their covariance.

    Args:
      patches: [M, n] float32.
      filters: how many.

    Returns:
      [n, filters] float32 with orthonormal columns, by falling variance. The element of largest magnitude of each is
      positive, since an eigenvector's sign is arbitrary.

    Raises:
      ValueError: if the patches vary in fewer directions, which are n or M - 1 at most.
    """
    eigenvalues, eigenvectors = _eigen(patches)
    values = np.asarray(eigenvalues)
    least = len(values) * np.finfo(np.float32).eps * values[-1]  # what rounding leaves of a zero
    rank = min(int(np.sum(values > max(least, 0))), len(patches) - 1)
    if filters > rank:
        raise ValueError(
            f"{len(patches)} patches of {len(values)} values have {rank} principal components, not {filters}; "
            f"use at most {rank} filters"
        )
    leading = eigenvectors[:, ::-1][:, :filters]
    largest = jnp.take_along_axis(leading, jnp.argmax(jnp.abs(leading), axis=0)[None], axis=0)
    return leading * jnp.sign(largest)


@jax.jit
def _eigen(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The eigenvalues [n] of the covariance, rising, and its eigenvectors [n, n]."""
    eigenvalues, eigenvectors = jnp.linalg.eigh(covariance(patches)[1])
    return eigenvalues, eigenvectors
