"""Cross-correlation of a batch with a kernel, in any number of spatial dimensions, and how it is lowered.

What machine learning calls convolution is cross-correlation (the kernel is not flipped); it is named rightly here.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.correlation import correlate_by_offsets, xla_correlate
from cnnjax.ops.geometry import Padding, per_dimension, resolve_padding

Lowering = Literal["xla", "offsets", "patches"]

# On a CPU, patches of inputs with more channels than this cost more memory traffic than their one product saves.
_MOST_PATCH_CHANNELS = 4


def correlate(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    lowering: Lowering | None = None,
) -> jax.Array:
    """a[n, i, f] = sum over m, k of x[n, s i + d m, k] kernel[m, k, f], with i and m over the spatial dimensions.

    Args:
      x: [N, *spatial, C].
      kernel: [*window, C, F].
      strides: between two positions of the window, one for all dimensions or one each.
      padding: zeros around x; see `cnnjax.ops.geometry.resolve_padding`.
      dilation: between two elements of the kernel.
      lowering: how to compute it; chosen for the backend and the shapes when None.

    Returns:
      [N, *positions, F], in the dtype of the operands.

    Raises:
      ValueError: if the ranks or channels disagree.
    """
    dimensions = x.ndim - 2
    if dimensions < 1 or kernel.ndim != dimensions + 2:
        raise ValueError(f"input {x.shape} needs a kernel of as many dimensions; given {kernel.shape}")
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(f"input has {x.shape[-1]} channels, the kernel {kernel.shape[-2]}")
    strides = per_dimension(strides, dimensions, "strides")
    dilation = per_dimension(dilation, dimensions, "dilation")
    window = kernel.shape[:-2]
    pads = resolve_padding(padding, x.shape[1:-1], window, strides, dilation)
    lowering = lowering or choose_lowering(x)
    if lowering == "xla":
        return xla_correlate(x, kernel, strides, pads, dilation)
    if lowering == "offsets":
        return correlate_by_offsets(x, kernel, strides, pads, dilation)
    patches = extract_patches(x, window, strides=strides, padding=pads, dilation=dilation)
    return jnp.tensordot(patches, kernel.reshape(-1, kernel.shape[-1]), axes=1)


def choose_lowering(x: jax.Array) -> Lowering:
    """The fastest form here, by measurement (`experiments/benchmark.py`), of correlating x [N, *spatial, C].

    On a CPU, XLA's gradients of a convolution are slow, most of all in a compiled loop: there it is patches times a
    matrix for few channels, such as those of images, and `cnnjax.ops.correlation` for more.
    """
    if jax.default_backend() != "cpu":
        return "xla"
    return "patches" if x.shape[-1] <= _MOST_PATCH_CHANNELS else "offsets"


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
