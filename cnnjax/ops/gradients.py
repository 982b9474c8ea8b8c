"""The lectures' explicit gradients of a convolutional layer, to be read and to be held against autodiff.

Written for clearness: sums over the elements of the window. Training takes those of `cnnjax.ops.correlation`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.geometry import Padding, Windows, place_windows


def kernel_gradient(
    x: jax.Array,
    gradient: jax.Array,
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """dJ/dK[m, c, f] = sum over n, i of G[n, i, f] x[n, s i + d m, c]: how the loss depends on the kernel.

    The lectures' g(G, V, s)[i, j, k, l] = sum over m, n of G[i, m, n] V[j, m s + k, n s + l], for a batch and in any
    number of spatial dimensions (Goodfellow, Bengio and Courville 2016, equation 9.11; it is dJ/dK, where the slide
    prints dJ/dZ).

    Args:
      x: the layer's input V, [N, *spatial, C].
      gradient: G = dJ/dZ at the layer's output, [N, *positions, F].
      window: the kernel's sizes.
      strides, padding, dilation: as in `cnnjax.ops.convolution.correlate`; the padding is of zeros.

    Returns:
      [*window, C, F].

    Raises:
      ValueError: if `gradient` does not have the shape of the layer's output, or the window does not fit once.
    """
    windows = place_windows(x.shape[1:-1], window, strides=strides, padding=padding, dilation=dilation)
    _require_output_shape(gradient, x.shape[0], windows)
    padded = jnp.pad(x, ((0, 0), *windows.padding, (0, 0)))
    batch_and_positions = tuple(range(x.ndim - 1))
    sums = [
        jnp.tensordot(padded[_met_by(offset, windows)], gradient, axes=(batch_and_positions, batch_and_positions))
        for offset in np.ndindex(windows.window)
    ]
    return jnp.stack(sums).reshape(*windows.window, x.shape[-1], gradient.shape[-1])


def input_gradient(
    kernel: jax.Array,
    gradient: jax.Array,
    spatial: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """dJ/dx[n, j, c] = sum over i, m with s i + d m = j, and over f, of K[m, c, f] G[n, i, f]: the error sent back.

    The lectures' h(K, G, s)[i, j, k] = sum over l, m with s l + m = j, over n, p with s n + p = k, and over q, of
    K[q, i, m, p] G[q, l, n], for a batch and in any number of spatial dimensions (Goodfellow, Bengio and Courville
    2016, equation 9.13; the slide prints G[i, l, n]).

    Args:
      kernel: K, [*window, C, F].
      gradient: G = dJ/dZ at the layer's output, [N, *positions, F].
      spatial: the input's grid.
      strides, padding, dilation: as in `cnnjax.ops.convolution.correlate`; the padding is of zeros.

    Returns:
      [N, *spatial, C].

    Raises:
      ValueError: if `gradient` does not have the shape of the layer's output, or the window does not fit once.
    """
    *window, channels, features = kernel.shape
    windows = place_windows(spatial, window, strides=strides, padding=padding, dilation=dilation)
    _require_output_shape(gradient, gradient.shape[0], windows, features)
    padded_sizes = (size + sum(pad) for size, pad in zip(windows.spatial, windows.padding, strict=True))
    padded = jnp.zeros((gradient.shape[0], *padded_sizes, channels), jnp.result_type(kernel, gradient))
    for offset in np.ndindex(windows.window):
        padded = padded.at[_met_by(offset, windows)].add(gradient @ kernel[offset].T)
    inner = (slice(pad[0], pad[0] + size) for size, pad in zip(windows.spatial, windows.padding, strict=True))
    return padded[(slice(None), *inner)]


def _met_by(offset: tuple[int, ...], windows: Windows) -> tuple[slice, ...]:
    """All that one element of the window meets, at all positions, of a padded input [N, *spatial, C]."""
    along = zip(offset, windows.positions, windows.strides, windows.dilation, strict=True)
    return (slice(None), *(slice(d * m, d * m + s * (p - 1) + 1, s) for m, p, s, d in along))


def _require_output_shape(gradient: jax.Array, batch: int, windows: Windows, features: int | None = None) -> None:
    expected = (batch, *windows.positions, gradient.shape[-1] if features is None else features)
    if gradient.shape != expected:
        raise ValueError(f"the gradient at the output must be {expected}; given {gradient.shape}")
