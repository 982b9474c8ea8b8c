"""Convolution with its constraints given up: unshared weights, and a dense matrix that starts as a convolution."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cnnjax.ops.borders import Border, extend
from cnnjax.ops.geometry import Padding, place_windows
from cnnjax.ops.patches import extract_patches
from cnnjax.ops.toeplitz import toeplitz_matrix


def correlate_unshared(
    x: jax.Array,
    kernels: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    border: Border = "zeros",
    fill: float = 0.0,
) -> jax.Array:
    """a[n, i, f] = sum over m, k of x[n, s i + d m, k] kernels[i, m, k, f]: a locally connected layer.

    Also named unshared convolution (Goodfellow, Bengio and Courville 2016, section 9.5): local as a convolution is, but
    with a kernel of its own at each position i.

    Args:
      x: [N, *spatial, C].
      kernels: [*positions, *window, C / groups, F].
      strides, padding, dilation, groups, border, fill: as in `cnnjax.ops.convolution.correlate`.

    Returns:
      [N, *positions, F], in the dtype of the operands.

    Raises:
      ValueError: if the ranks, channels, groups or positions disagree, or the window does not fit once; and as
        `cnnjax.ops.borders.extend` does.
    """
    dimensions = x.ndim - 2
    if dimensions < 1 or kernels.ndim != 2 * dimensions + 2 or kernels.shape[-2] * groups != x.shape[-1]:
        raise ValueError(
            f"input {x.shape}, {groups} groups: needs kernels [*positions, *window, channels, F]; given {kernels.shape}"
        )
    if kernels.shape[-1] % groups:
        raise ValueError(f"{groups} groups must divide {kernels.shape[-1]} features")
    window = kernels.shape[dimensions:-2]
    windows = place_windows(x.shape[1:-1], window, strides=strides, padding=padding, dilation=dilation)
    if kernels.shape[:dimensions] != windows.positions:
        raise ValueError(f"there are {windows.positions} positions, and kernels for {kernels.shape[:dimensions]}")
    x, unpadded = extend(x, windows.padding, border, fill), ((0, 0),) * dimensions
    outputs = []
    for part, own in zip(jnp.split(x, groups, axis=-1), jnp.split(kernels, groups, axis=-1), strict=True):
        patches = extract_patches(part, window, strides=windows.strides, padding=unpadded, dilation=windows.dilation)
        matrices = own.reshape(*windows.positions, patches.shape[-1], own.shape[-1])
        outputs.append(jnp.einsum("n...k,...kf->n...f", patches, matrices))
    return jnp.concatenate(outputs, axis=-1)


def unshare(kernel: jax.Array, positions: Sequence[int]) -> jax.Array:
    """The same kernel at every position: [*window, C, F] to [*positions, *window, C, F]."""
    return jnp.broadcast_to(kernel, (*positions, *kernel.shape))


def embed_in_dense(
    kernel: jax.Array,
    spatial: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    border: Border = "zeros",
) -> jax.Array:
    """The matrix of a dense layer that computes exactly this correlation (d'Ascoli and others 2019).

    Args:
      kernel: [*window, C / groups, F].
      spatial: the input's grid; the rest as in `cnnjax.ops.toeplitz.toeplitz_matrix`, whose transpose this is.

    Returns:
      M [prod(spatial) * C, prod(positions) * F], for which x.reshape(N, -1) @ M is correlate(x, kernel).reshape(N, -1).

    Raises:
      ValueError: as `toeplitz_matrix` does.
    """
    matrix = toeplitz_matrix(
        kernel, spatial, strides=strides, padding=padding, dilation=dilation, groups=groups, border=border
    )
    return matrix.todense().T
