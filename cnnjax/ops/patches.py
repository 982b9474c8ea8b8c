"""Patches: all that a sliding window sees."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def extract_patches(
    x: jax.Array,
    window: Sequence[int],
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> jax.Array:
    """All that a sliding window sees: [N, *spatial, C] to [N, *positions, prod(window) * C].

    A patch is laid out as the kernel [*window, C] is. It is built from the last dimension to the first, so that each
    concatenation copies ever longer contiguous runs: twice as fast as one concatenation of all offsets.
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    for axis in reversed(range(1, len(window) + 1)):
        k, s, d = window[axis - 1], strides[axis - 1], dilation[axis - 1]
        last = x.shape[axis] - d * (k - 1)
        if last < 1:
            raise ValueError(f"a window of {d * (k - 1) + 1} does not fit in {x.shape[axis]}")
        views = [lax.slice_in_dim(x, i * d, i * d + last, stride=s, axis=axis) for i in range(k)]
        x = jnp.concatenate(views, axis=-1) if k > 1 else views[0]
    return x
