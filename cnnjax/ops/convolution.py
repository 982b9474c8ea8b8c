"""Cross-correlation of a batch with a kernel, in any number of spatial dimensions, and how it is lowered.

What machine learning calls convolution is cross-correlation (the kernel is not flipped); it is named rightly here.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.geometry import Padding, per_dimension, resolve_padding

Lowering = Literal["xla", "patches"]

# Beyond this many bytes of patches a batch, their memory traffic costs more than XLA's own convolution.
_MOST_PATCH_BYTES = 256 * 2**20


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
    if (lowering or choose_lowering(x, kernel, strides)) == "xla":
        spatial = "DHW"[-dimensions:]
        layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
        return lax.conv_general_dilated(x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=layout)
    patches = extract_patches(x, window, strides=strides, padding=pads, dilation=dilation)
    return jnp.tensordot(patches, kernel.reshape(-1, kernel.shape[-1]), axes=1)


def choose_lowering(x: jax.Array, kernel: jax.Array, strides: Sequence[int]) -> Lowering:
    """The faster correct way here: patches times a matrix on a CPU as long as the patches are small, else XLA's own.

    Inside a compiled loop, XLA on the CPU runs a convolution on one thread and its kernel's gradient slower still.
    """
    positions = x.size // x.shape[-1]
    for stride in strides:
        positions //= stride
    patch_bytes = positions * (kernel.size // kernel.shape[-1]) * x.dtype.itemsize
    on_cpu = jax.default_backend() == "cpu"
    return "patches" if on_cpu and patch_bytes <= _MOST_PATCH_BYTES else "xla"


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
