"""Cross-correlation as an explicit matrix: sparse, and Toeplitz in blocks, for its weights are shared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.borders import Border
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
    groups: int = 1,
    border: Border = "zeros",
) -> "BCOO":
    """The matrix W with W vec(x) = vec(correlate(x, kernel)): convolution as a dense layer with constrained weights.

    The lectures' Toeplitz(u, v): row i + 1 is row i moved on by the stride. In two dimensions it is a Toeplitz matrix
    of Toeplitz blocks, in three once more, and each entry is a block of channels. On a ring it is circulant. Only
    weights that meet the input are stored, row by row; where they meet padded zeros there is nothing to multiply, and
    where a border shows a weight one element twice, its places are added up. Differentiable in the kernel.

    Args:
      kernel: [*window, C / groups, F].
      spatial: the input's grid; `strides`, `padding`, `dilation`, `groups` and `border` are as in
        `cnnjax.ops.convolution.correlate`. A constant border adds a constant to the product: `constant_term`.

    Returns:
      [prod(positions) * F, prod(spatial) * C] in the kernel's dtype, its rows and columns in the order of the flattened
      output [*positions, F] and input [*spatial, C].

    Raises:
      ValueError: if the kernel or the settings are not of as many dimensions as the grid, the window does not fit, or
        the groups do not divide the features; and as `cnnjax.ops.borders.extend` does.
    """
    # A quarter of a second, which every start of cnnjax would take.
    from jax.experimental.sparse import BCOO

    *window, seen, features = kernel.shape
    if groups < 1 or features % groups:
        raise ValueError(f"{groups} groups must divide {features} features")
    windows = place_windows(spatial, window, strides=strides, padding=padding, dilation=dilation)
    site = windows.sites(border)
    position, offset, channel, feature = np.nonzero(
        np.broadcast_to((site >= 0)[:, :, None, None], (*site.shape, seen, features))
    )
    row = position * features + feature
    group = feature // (features // groups)
    column = site[position, offset] * seen * groups + group * seen + channel
    shape = (len(site) * features, int(np.prod(windows.spatial)) * seen * groups)
    entry, of_entry = np.unique(row * shape[1] + column, return_inverse=True)
    weights = kernel.reshape(-1, seen, features)[offset, channel, feature]
    values = jnp.zeros(len(entry), kernel.dtype).at[of_entry].add(weights)
    indices = jnp.asarray(np.stack(np.divmod(entry, shape[1]), axis=-1), jnp.int32)
    return BCOO((values, indices), shape=shape, indices_sorted=True, unique_indices=True)


def constant_term(
    kernel: jax.Array,
    spatial: Sequence[int],
    fill: float,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """What a border of a constant adds to the product with `toeplitz_matrix`: [*positions, F].

    Arguments and errors as there, and `fill`, the constant.
    """
    *window, seen, features = kernel.shape
    windows = place_windows(spatial, window, strides=strides, padding=padding, dilation=dilation)
    met = jnp.asarray(windows.sites() < 0, kernel.dtype) * fill
    return (met @ kernel.reshape(-1, seen, features).sum(1)).reshape(*windows.positions, features)
