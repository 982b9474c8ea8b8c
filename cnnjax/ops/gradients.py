"""The lectures' explicit gradients of a convolutional layer, to be read and to be held against autodiff.

Written for clearness: sums over the elements of the window. Training takes those of `cnnjax.ops.correlation`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.borders import Border, extend, extended_sites
from cnnjax.ops.geometry import Padding, Windows, place_windows


def kernel_gradient(
    x: jax.Array,
    gradient: jax.Array,
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    border: Border = "zeros",
    fill: float = 0.0,
) -> jax.Array:
    """dJ/dK[m, c, f] = sum over n, i of G[n, i, f] x[n, s i + d m, c]: how the loss depends on the kernel.

    The lectures' g(G, V, s)[i, j, k, l] = sum over m, n of G[i, m, n] V[j, m s + k, n s + l], for a batch and in any
    number of spatial dimensions (Goodfellow, Bengio and Courville 2016, equation 9.11; it is dJ/dK, where the slide
    prints dJ/dZ).

    Args:
      x: the layer's input V, [N, *spatial, C].
      gradient: G = dJ/dZ at the layer's output, [N, *positions, F].
      window: the kernel's sizes.
      strides, padding, dilation, groups, border, fill: as in `cnnjax.ops.convolution.correlate`. The kernel meets what
        the border holds, as it meets the input.

    Returns:
      [*window, C / groups, F].

    Raises:
      ValueError: if `gradient` does not have the shape of the layer's output, or the window does not fit once; and as
        `cnnjax.ops.borders.extend` does.
    """
    windows = place_windows(x.shape[1:-1], window, strides=strides, padding=padding, dilation=dilation)
    _require_output_shape(gradient, x.shape[0], windows)
    padded = extend(x, windows.padding, border, fill)
    batch_and_positions = tuple(range(x.ndim - 1))
    of_groups = []
    for seen, own in zip(jnp.split(padded, groups, axis=-1), jnp.split(gradient, groups, axis=-1), strict=True):
        sums = [
            jnp.tensordot(seen[_met_by(offset, windows)], own, axes=(batch_and_positions, batch_and_positions))
            for offset in np.ndindex(windows.window)
        ]
        of_groups.append(jnp.stack(sums).reshape(*windows.window, seen.shape[-1], own.shape[-1]))
    return jnp.concatenate(of_groups, axis=-1)


def input_gradient(
    kernel: jax.Array,
    gradient: jax.Array,
    spatial: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    border: Border = "zeros",
) -> jax.Array:
    """dJ/dx[n, j, c] = sum over i, m with s i + d m = j, and over f, of K[m, c, f] G[n, i, f]: the error sent back.

    The lectures' h(K, G, s)[i, j, k] = sum over l, m with s l + m = j, over n, p with s n + p = k, and over q, of
    K[q, i, m, p] G[q, l, n], for a batch and in any number of spatial dimensions (Goodfellow, Bengio and Courville
    2016, equation 9.13; the slide prints G[i, l, n]).

    Args:
      kernel: K, [*window, C / groups, F].
      gradient: G = dJ/dZ at the layer's output, [N, *positions, F].
      spatial: the input's grid.
      strides, padding, dilation, groups, border: as in `cnnjax.ops.convolution.correlate`. What the border copies from
        the grid sends its error back to where it was copied from, and a constant to nowhere.

    Returns:
      [N, *spatial, C].

    Raises:
      ValueError: if `gradient` does not have the shape of the layer's output, or the window does not fit once; and as
        `cnnjax.ops.borders.extend` does.
    """
    *window, channels, features = kernel.shape
    windows = place_windows(spatial, window, strides=strides, padding=padding, dilation=dilation)
    _require_output_shape(gradient, gradient.shape[0], windows, features)
    site = extended_sites(windows.spatial, windows.padding, border)
    start = jnp.zeros((len(gradient), *site.shape, channels), jnp.result_type(kernel, gradient))
    of_groups = []
    for weights, own in zip(jnp.split(kernel, groups, axis=-1), jnp.split(gradient, groups, axis=-1), strict=True):
        padded = start
        for offset in np.ndindex(windows.window):
            padded = padded.at[_met_by(offset, windows)].add(own @ weights[offset].T)
        of_groups.append(padded)
    padded = jnp.concatenate(of_groups, axis=-1)[:, site >= 0]
    shape = (len(gradient), site.max() + 1, channels * groups)
    return jnp.zeros(shape, padded.dtype).at[:, site[site >= 0]].add(padded).reshape(len(gradient), *spatial, -1)


def _met_by(offset: tuple[int, ...], windows: Windows) -> tuple[slice, ...]:
    """All that one element of the window meets, at all positions, of a padded input [N, *spatial, C]."""
    along = zip(offset, windows.positions, windows.strides, windows.dilation, strict=True)
    return (slice(None), *(slice(d * m, d * m + s * (p - 1) + 1, s) for m, p, s, d in along))


def _require_output_shape(gradient: jax.Array, batch: int, windows: Windows, features: int | None = None) -> None:
    expected = (batch, *windows.positions, gradient.shape[-1] if features is None else features)
    if gradient.shape != expected:
        raise ValueError(f"the gradient at the output must be {expected}; given {gradient.shape}")
