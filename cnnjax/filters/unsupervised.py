"""Unsupervised sources of filters by name: from patches of a layer's input to filters that act on them as they are."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.config import FitConfig
from cnnjax.filters.kmeans import kmeans, require_distinct
from cnnjax.filters.patches import contrast_normalise, remove_means
from cnnjax.filters.principal_components import principal_components
from cnnjax.filters.whitening import Whitening, whiten, zca_whitening

# Of Coates 2011: added to the variances of patches, as a share of the mean one.
CONTRAST_EPSILON = 0.01


class FilterBank(NamedTuple):
    """Filters whose responses to raw patches are patches @ kernel + bias.

    Attributes:
      kernel: [n, F] float32, n in the order of a kernel [*window, in, F].
      bias: [F] float32.
    """

    kernel: jax.Array
    bias: jax.Array


Fit = Callable[[jax.Array, jax.Array, int, FitConfig, Callable[[float], None]], FilterBank]
CentroidFit = Callable[[jax.Array, jax.Array, int, FitConfig, Callable[[float], None]], jax.Array]


def _fit_patches(
    key: jax.Array, patches: jax.Array, filters: int, settings: FitConfig, between: Callable[[float], None]
) -> FilterBank:
    """Distinct random patches, contrast-normalised, whitened and of unit length (Coates and Ng 2011)."""
    normalised = contrast_normalise(patches, CONTRAST_EPSILON)
    chosen = _draw(key, normalised, filters)
    whitening = zca_whitening(normalised, settings.whitening)
    vectors = _unit_length(whiten(normalised[chosen], whitening))
    return _scaled(_fold(vectors.T, whitening), patches)


def _fit_kmeans(
    key: jax.Array, patches: jax.Array, filters: int, settings: FitConfig, between: Callable[[float], None]
) -> FilterBank:
    """k-means on contrast-normalised, whitened patches (Coates 2011)."""
    normalised = contrast_normalise(patches, CONTRAST_EPSILON)
    whitening = zca_whitening(normalised, settings.whitening)
    centroids = kmeans(key, whiten(normalised, whitening), filters, settings.iterations, between)
    return _scaled(_fold(centroids.T, whitening), patches)


def _fit_pca(
    key: jax.Array, patches: jax.Array, filters: int, settings: FitConfig, between: Callable[[float], None]
) -> FilterBank:
    """The leading principal components of patches without their means (PCANet, Chan 2015): fewer than n of them."""
    return _scaled(principal_components(remove_means(patches), filters), patches)


def _fit_zca(
    key: jax.Array, patches: jax.Array, filters: int, settings: FitConfig, between: Callable[[float], None]
) -> FilterBank:
    """The whitening of the patches itself: as many filters as a patch has values."""
    if filters != patches.shape[1]:
        raise ValueError(
            f"whitening (zca) gives as many filters as a patch has values, {patches.shape[1]}, not {filters}"
        )
    if len(patches) <= filters:
        raise ValueError(f"{len(patches)} patches cannot support the whitening of {filters} values; use more")
    _require_varied(patches - patches.mean(0), patches)
    mean, matrix = zca_whitening(patches, settings.whitening)
    return FilterBank(matrix, -_product(mean, matrix))


def _fit_autoencoder(
    key: jax.Array, patches: jax.Array, filters: int, settings: FitConfig, between: Callable[[float], None]
) -> FilterBank:
    """The encoder of a sparse autoencoder on whitened patches, for sigmoid units (Coates 2011).

    The patches lose their mean but keep their contrast, since a bias belongs to one scale of the patches.
    """
    centred = remove_means(patches)
    _require_varied(centred - centred.mean(0), patches)
    whitening = zca_whitening(centred, settings.whitening)
    # Optax, which it needs, takes a tenth of a second to load.
    from cnnjax.filters.autoencoder import sparse_autoencoder

    encoder = sparse_autoencoder(key, whiten(centred, whitening), filters, settings.iterations, between)
    offset = _product(_product(whitening.mean, whitening.matrix), encoder.weights)
    return FilterBank(_fold(encoder.weights, whitening), encoder.bias - offset)


def _require_varied(offsets: jax.Array, patches: jax.Array) -> None:
    """Raises `ValueError` for patches that differ by rounding alone in what a source sees of them."""
    if jnp.abs(offsets).max() <= 8 * jnp.finfo(patches.dtype).eps * jnp.abs(patches).max():
        raise ValueError(f"{len(patches)} patches that do not differ cannot support filters")


def _patch_centroids(
    key: jax.Array, vectors: jax.Array, filters: int, settings: FitConfig, between: Callable[[float], None]
) -> jax.Array:
    return _unit_length(vectors[_draw(key, vectors, filters)]).T


def _kmeans_centroids(
    key: jax.Array, vectors: jax.Array, filters: int, settings: FitConfig, between: Callable[[float], None]
) -> jax.Array:
    return kmeans(key, vectors, filters, settings.iterations, between).T


FITS: dict[str, Fit] = {
    "patches": _fit_patches,
    "kmeans": _fit_kmeans,
    "pca": _fit_pca,
    "zca": _fit_zca,
    "autoencoder": _fit_autoencoder,
}
"""`fit(key, patches [M, n] float32, filters, settings, between)`: the bank that acts on patches as they are, since the
removal of a patch's mean and the whitening are linear and are folded into it; a patch's own contrast is not.

`patches`, `kmeans` and `pca` have no bias and are scaled, each bank by one number, so that the mean square of its
responses to the patches is twice that of the patches' values: what random filters of variance 2 / n (He 2015) give in
expectation. `zca` and `autoencoder` keep their own scale and bias.

`kmeans` and `autoencoder` call `between` with the share done, up to 1; it may raise to stop. A set of patches that
cannot support so many filters raises a ValueError of one line.
"""

CENTROID_FITS: dict[str, CentroidFit] = {"patches": _patch_centroids, "kmeans": _kmeans_centroids}
"""`fit(key, vectors [M, n] float32, filters, settings, between)`: centroids [n, F] of vectors that are already
whitened, taken as they are; those of `patches` have unit length."""


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _draw(key: jax.Array, vectors: jax.Array, filters: int) -> np.ndarray:
    """The indices of so many distinct vectors, none of them 0; or a ValueError."""
    lengths = np.linalg.norm(np.asarray(vectors), axis=1)
    usable = np.flatnonzero(lengths > 2**-16 * lengths.max())
    distinct = usable[require_distinct(np.asarray(vectors)[usable], filters)]
    return np.asarray(jax.random.choice(key, distinct, (filters,), replace=False))


def _unit_length(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)


def _fold(filters: jax.Array, whitening: Whitening) -> jax.Array:
    """Filters [n, F] of whitened patches as filters of raw ones: (I - 11'/n) @ matrix @ filters."""
    return remove_means(_product(whitening.matrix, filters).T).T


def _scaled(kernel: jax.Array, patches: jax.Array) -> FilterBank:
    """The bank of filters [n, F], each of mean 0, at the scale that `FITS` describes."""
    centred = remove_means(patches)  # what the filters see; what they do not see would only add rounding
    moments = _product(centred.T, centred) / len(patches)
    response = float(jnp.sum(kernel * _product(moments, kernel)) / kernel.shape[1])
    if not response > 0:
        raise ValueError(f"no filter answers to these {len(patches)} patches: they are constant, or not finite")
    scale = np.sqrt(2 * float(jnp.mean(jnp.square(patches))) / response)
    return FilterBank(kernel * scale, jnp.zeros(kernel.shape[1]))
