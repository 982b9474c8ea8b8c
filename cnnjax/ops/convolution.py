"""Cross-correlation of a batch with a kernel, in any number of spatial dimensions, and how it is lowered.

What machine learning calls convolution is cross-correlation (the kernel is not flipped); it is named rightly here.
"""

from collections.abc import Sequence

import jax

from cnnjax.ops.correlation import Lowering, bind_correlate
from cnnjax.ops.geometry import Padding, output_size, per_dimension, resolve_padding

# On a CPU, patches of inputs with more channels than this cost more memory traffic than rows.
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
      ValueError: if the ranks or channels disagree, or the window does not fit once.
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
    for size, k, stride, pad, d in zip(x.shape[1:-1], window, strides, pads, dilation, strict=True):
        output_size(size, k, stride, pad, d)
    return bind_correlate(x, kernel, strides, pads, dilation, lowering or choose_lowering(x.shape[-1], strides[0]))


def choose_lowering(channels: int, first_stride: int) -> Lowering:
    """The fastest form here, by measurement (`experiments/benchmark.py`), for an input of that many channels.

    On a CPU a product of patches where channels are few, such as those of images, or rows are skipped, and of rows
    elsewhere; XLA's convolution on any other backend.
    """
    if jax.default_backend() != "cpu":
        return "xla"
    return "patches" if channels <= _MOST_PATCH_CHANNELS or first_stride > 1 else "rows"
