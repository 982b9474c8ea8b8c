"""Cross-correlation as an explicit matrix: sparse, and Toeplitz in blocks, for its weights are shared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.geometry import Padding, place_windows

if TYPE_CHECKING:
    from jax.experimental.sparse import BCOO


def toeplitz_matrix(
    kernel: jax.Array,
    spatial: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> "BCOO":
    """The matrix W with W vec(x) = vec(correlate(x, kernel)): convolution as a dense layer with constrained weights.

    The lectures' Toeplitz(u, v): row i + 1 is row i moved on by the stride. In two dimensions it is a Toeplitz matrix
    of Toeplitz blocks, in three once more, and each entry is a block of channels. Only weights that meet the input are
    stored, row by row; where they meet padded zeros there is nothing to multiply. Differentiable in the kernel.

    Args:
      kernel: [*window, C, F].
      spatial: the input's grid; `strides`, `padding` (by zeros) and `dilation` are as in
        `cnnjax.ops.convolution.correlate`.

    Returns:
      [prod(positions) * F, prod(spatial) * C] in the kernel's dtype, its rows and columns in the order of the flattened
      output [*positions, F] and input [*spatial, C].

    Raises:
      ValueError: if the kernel or the settings are not of as many dimensions as the grid, or the window does not fit.
    """
    # A quarter of a second, which every start of cnnjax would take.
    from jax.experimental.sparse import BCOO

    *window, channels, features = kernel.shape
    windows = place_windows(spatial, window, strides=strides, padding=padding, dilation=dilation)
    site, inside = windows.sites()
    each_feature = np.broadcast_to(inside[:, None], (inside.shape[0], features, inside.shape[1]))
    position, feature, offset = np.nonzero(each_feature)
    columns = site[position, offset][:, None] * channels + np.arange(channels)
    rows = np.broadcast_to((position * features + feature)[:, None], columns.shape)
    values = jnp.swapaxes(kernel.reshape(-1, channels, features), 1, 2)[offset, feature]
    indices = jnp.asarray(np.stack([rows.ravel(), columns.ravel()], axis=-1), jnp.int32)
    shape = (inside.shape[0] * features, int(np.prod(windows.spatial)) * channels)
    return BCOO((values.ravel(), indices), shape=shape, indices_sorted=True, unique_indices=True)
