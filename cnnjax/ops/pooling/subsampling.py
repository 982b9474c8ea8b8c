"""Down-sampling without a summary."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.geometry import Padding, output_size
from cnnjax.ops.pooling.windows import pooling_windows


def subsample(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
) -> jax.Array:
    """The element at each window's centre and nothing of the others: what a stride alone does.

    The centre of an even window is the earlier of its two middle elements; where it lies in the padding, the nearest
    element that does not is taken. So there are as many positions as with any other pooling of these windows.
    Arguments, shapes and errors as in `max_pool`.
    """
    windows = pooling_windows(x, window, strides, padding, exact)
    for axis, (k, s, pad) in enumerate(zip(windows.window, windows.strides, windows.padding, strict=True), start=1):
        size = x.shape[axis]
        first = (k - 1) // 2 - pad[0]
        last = first + (output_size(size, k, s, pad) - 1) * s
        outside = (max(-first, 0), max(last - size + 1, 0))
        if any(outside):
            x = jnp.pad(x, [outside if a == axis else (0, 0) for a in range(x.ndim)], mode="edge")
        x = lax.slice_in_dim(x, first + outside[0], last + outside[0] + 1, stride=s, axis=axis)
    return x
