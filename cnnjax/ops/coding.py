"""Codes of single-layer networks: patches of one contrast, vectors by their centroids, signs counted in blocks.

Sources: Coates, Ng and Lee 2011, "An analysis of single-layer networks in unsupervised feature learning"; Coates and Ng
2011, "The importance of encoding versus training with sparse coding and vector quantization"; Chan and others 2015,
"PCANet".
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.convolution import correlate
from cnnjax.ops.geometry import per_dimension
from cnnjax.ops.patches import extract_patches
from cnnjax.ops.pooling import average_pool

CONTRAST_EPSILON = 10 / (255 * 0.25) ** 2
"""What is added to a patch's variance: Coates's 10 for pixels of 0 to 255, of which a standard deviation is a quarter
of the range (CIFAR-10's channels: 0.24 to 0.26), once they are divided by it. About 0.0025."""

# Keeps the slope of a root finite where its argument is 0.
_LEAST_SQUARE = 1e-12


def normalise_contrast(patches: jax.Array, *, epsilon: float = CONTRAST_EPSILON) -> jax.Array:
    """(p - mean of p) / sqrt(variance of p + epsilon), for each patch alone.

    Args:
      patches: [..., n], floating; the variance is over n, not n - 1.
      epsilon: positive.
    """
    centred = patches - patches.mean(-1, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)


def correlate_contrast(x: jax.Array, kernel: jax.Array, *, epsilon: float = CONTRAST_EPSILON) -> jax.Array:
    """Every patch of x, normalised by `normalise_contrast`, times a kernel: no patch is ever held in memory.

    Removing a patch's mean is the same as removing the kernel's; the variance comes from averages of windows.

    Args:
      x: [N, *spatial, C], about 0 and of about unit variance: the variance of a window far from 0 would lose digits.
      kernel: [*window, C, F].
      epsilon: positive.

    Returns:
      [N, *positions, F], at all positions where the window fits.

    Raises:
      ValueError: if ranks or channels disagree, or the window does not fit once.
    """
    products = correlate(x, kernel - kernel.mean(tuple(range(kernel.ndim - 1))))
    window = kernel.shape[:-2]
    mean = average_pool(x.mean(-1, keepdims=True), window, strides=1)
    square = average_pool(jnp.square(x).mean(-1, keepdims=True), window, strides=1)
    return products * lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0) + epsilon)


def triangle_code(x: jax.Array, centroids: jax.Array) -> jax.Array:
    """max(0, mean of z - z_k), z being the distances to all centroids (Coates, Ng and Lee 2011): about half are 0.

    Args:
      x: [..., n].
      centroids: [n, F].

    Returns:
      [..., F].

    Raises:
      ValueError: for centroids of another length.
    """
    distances = jnp.sqrt(_squared_distances(x, centroids))
    return jnp.maximum(distances.mean(-1, keepdims=True) - distances, 0)


def hard_code(x: jax.Array, centroids: jax.Array) -> jax.Array:
    """1 for the nearest centroid, the first of equals, and 0 for all others.

    It has no gradient. Arguments and errors as in `triangle_code`.
    """
    squared = _squared_distances(x, centroids)
    number = jnp.arange(centroids.shape[1])
    # Two reductions by a minimum in the place of argmin, which XLA does not fuse and the CPU runs slowly.
    nearest = jnp.where(squared == squared.min(-1, keepdims=True), number, len(number)).min(-1, keepdims=True)
    return (number == nearest).astype(x.dtype)


def soft_threshold_code(x: jax.Array, centroids: jax.Array, *, alpha: float = 0.25) -> jax.Array:
    """max(0, x . d_k - alpha), d_k being centroid k over its norm (Coates and Ng 2011).

    The paper chooses `alpha` by cross-validation. It also codes -x, which doubles the features; this does not.
    Arguments and errors as in `triangle_code`.
    """
    _require_length(x, centroids)
    atoms = centroids * lax.rsqrt(jnp.maximum(jnp.square(centroids).sum(0), _LEAST_SQUARE))
    return jnp.maximum(_products(x, atoms) - alpha, 0)


def sign_codes(x: jax.Array, bits: int) -> jax.Array:
    """Each `bits` successive channels as one whole number: the sum over l of 2^l [x_l > 0] (Chan 2015, section 2.3).

    Args:
      x: [..., maps * bits].
      bits: at most 30.

    Returns:
      int32 [..., maps], in [0, 2^bits).

    Raises:
      ValueError: if the channels are not a multiple of `bits`, or there are too many.
    """
    if not 1 <= bits <= 30 or x.shape[-1] % bits:
        raise ValueError(f"bits must be 1 to 30 and divide {x.shape[-1]} channels; given {bits}")
    grouped = x.reshape(*x.shape[:-1], -1, bits)
    return jnp.where(grouped > 0, 2 ** jnp.arange(bits), 0).sum(-1)


def block_histograms(
    codes: jax.Array, bins: int, window: int | Sequence[int], strides: int | Sequence[int]
) -> jax.Array:
    """Which share of each block's positions has which code.

    Args:
      codes: whole numbers [N, *spatial, C], in [0, bins).
      bins: how many codes there are.
      window: the block's size along every spatial dimension, or one each.
      strides: between two blocks, likewise; what does not fill a block is left out.

    Returns:
      float32 [N, *blocks, C, bins]; each histogram adds up to 1.

    Raises:
      ValueError: if the block does not fit once, or a number is not positive.
    """
    dimensions = codes.ndim - 2
    window = per_dimension(window, dimensions, "the block")
    strides = per_dimension(strides, dimensions, "strides")
    each = (1,) * dimensions
    seen = extract_patches(codes, window, strides=strides, padding=((0, 0),) * dimensions, dilation=each)
    grid, channels, size = seen.shape[:-1], codes.shape[-1], math.prod(window)
    seen = seen.reshape(-1, size, channels)
    # Comparing each code with each bin would cost a CPU 50 times as much. Whole numbers add up exactly in any order.
    counts = jnp.zeros((len(seen), channels, bins))
    counts = counts.at[jnp.arange(len(seen))[:, None, None], jnp.arange(channels), seen].add(1)
    return counts.reshape(*grid, channels, bins) / size


def _squared_distances(x: jax.Array, centroids: jax.Array) -> jax.Array:
    _require_length(x, centroids)
    own = jnp.square(x).sum(-1, keepdims=True) + jnp.square(centroids).sum(0)
    return jnp.maximum(own - 2 * _products(x, centroids), _LEAST_SQUARE)


def _products(x: jax.Array, centroids: jax.Array) -> jax.Array:
    return jnp.einsum("...n,nf->...f", x, centroids, precision="highest")


def _require_length(x: jax.Array, centroids: jax.Array) -> None:
    if centroids.ndim != 2 or len(centroids) != x.shape[-1]:
        raise ValueError(f"centroids must be [{x.shape[-1]}, F] for an input {x.shape}; given {centroids.shape}")
