"""Convolution and cross-correlation of a batch, in any number of spatial dimensions, and how they are lowered.

What machine learning calls convolution is cross-correlation (the kernel is not flipped); both are named rightly here.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cnnjax.ops.borders import Border, extend
from cnnjax.ops.correlation import Lowering, bind_correlate
from cnnjax.ops.geometry import Padding, per_dimension, place_windows, resolve_padding

# On a CPU, patches of inputs with more channels than this cost more memory traffic than rows.
_MOST_PATCH_CHANNELS = 4

# A program has each element of the window one by one in the form `shifts`: of larger ones it would grow too long.
_MOST_SHIFTS = 128


def correlate(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    border: Border = "zeros",
    fill: float = 0.0,
    exact: bool = False,
    lowering: Lowering | None = None,
) -> jax.Array:
    """a[n, i, f] = sum over m, k of x[n, s i + d m, k] kernel[m, k, f], with i and m over the spatial dimensions.

    Args:
      x: [N, *spatial, C].
      kernel: [*window, C / groups, F].
      strides: between two positions of the window, one for all dimensions or one each.
      padding: how much around x; see `cnnjax.ops.geometry.resolve_padding`.
      dilation: between two elements of the kernel.
      groups: equal parts into which channels and features are split, each feature seeing the channels of its own part
        alone; C of them make it depthwise.
      border: where the padding comes from; see `cnnjax.ops.borders.extend`.
      fill: a constant in the place of the zeros of that border.
      exact: whether the windows must fit without a rest.
      lowering: how to compute it; chosen for the backend and the shapes when None. `shifts` is for depthwise kernels.

    Returns:
      [N, *positions, F], in the dtype of the operands.

    Raises:
      ValueError: if the ranks, channels or groups disagree, the window does not fit once, or not exactly where that is
        asked for; and as `extend` does.
    """
    dimensions = x.ndim - 2
    if dimensions < 1 or kernel.ndim != dimensions + 2:
        raise ValueError(f"input {x.shape} needs a kernel of as many dimensions; given {kernel.shape}")
    if groups < 1 or x.shape[-1] % groups or kernel.shape[-1] % groups:
        raise ValueError(f"{groups} groups must divide {x.shape[-1]} channels and {kernel.shape[-1]} features")
    if x.shape[-1] != kernel.shape[-2] * groups:
        raise ValueError(f"input has {x.shape[-1]} channels, the kernel {kernel.shape[-2]} in {groups} groups")
    windows = place_windows(
        x.shape[1:-1], kernel.shape[:-2], strides=strides, padding=padding, dilation=dilation, exact=exact
    )
    strides, pads, dilation = windows.strides, windows.padding, windows.dilation
    if fill or border != "zeros":
        x, pads = extend(x, pads, border, fill), ((0, 0),) * dimensions
    lowering = lowering or choose_lowering(kernel.shape, strides[0], groups)
    if lowering == "shifts":
        if groups != x.shape[-1]:
            raise ValueError(f"shifts need as many groups as channels, which are {x.shape[-1]}; given {groups}")
        each = kernel.shape[-1] // groups
        turns = [
            bind_correlate(x, kernel[..., i::each], strides, pads, dilation, groups, lowering) for i in range(each)
        ]
        return turns[0] if each == 1 else jnp.stack(turns, axis=-1).reshape(*turns[0].shape[:-1], -1)
    if groups == 1 or lowering == "xla":
        return bind_correlate(x, kernel, strides, pads, dilation, groups, lowering)
    parts = zip(jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
    return jnp.concatenate([bind_correlate(*part, strides, pads, dilation, 1, lowering) for part in parts], axis=-1)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    border: Border = "zeros",
    fill: float = 0.0,
    exact: bool = False,
    lowering: Lowering | None = None,
) -> jax.Array:
    """The convolution of signal processing: `correlate` with the kernel flipped along every spatial dimension.

    Arguments, shapes and errors as in `correlate`. With `padding="full"` it commutes and associates.
    """
    flipped = jnp.flip(kernel, tuple(range(kernel.ndim - 2)))
    return correlate(
        x,
        flipped,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=groups,
        border=border,
        fill=fill,
        exact=exact,
        lowering=lowering,
    )


def correlate_transposed(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
) -> jax.Array:
    """The transpose of `correlate` as a linear map of its input: from a grid of positions back to the finer grid.

    The up-sampling layer known as transposed (or fractionally strided) convolution.

    Args:
      x: [N, *positions, F], as `correlate` returns it.
      kernel: [*window, C / groups, F], as `correlate` takes it.
      strides, padding, dilation, groups: of that correlation. `same` here means: the output is `strides` times the
        input.
      output_padding: how many elements the finer grid has beyond the smallest one that gives these positions, less than
        the stride.

    Returns:
      [N, *spatial, C], where spatial = strides * (positions - 1) + extent - padding + output_padding.

    Raises:
      ValueError: if ranks, features or groups disagree, or the output would be empty.
    """
    dimensions = x.ndim - 2
    if dimensions < 1 or kernel.ndim != dimensions + 2 or kernel.shape[-1] != x.shape[-1]:
        raise ValueError(f"input {x.shape} needs a kernel [*window, C, {x.shape[-1]}]; given {kernel.shape}")
    strides = per_dimension(strides, dimensions, "strides")
    dilation = per_dimension(dilation, dimensions, "dilation")
    more = (output_padding,) * dimensions if isinstance(output_padding, int) else tuple(output_padding)
    if len(more) != dimensions or not all(0 <= extra < stride for extra, stride in zip(more, strides, strict=True)):
        raise ValueError(
            f"output_padding must be at least 0 and less than the strides {strides}; given {output_padding}"
        )
    upsampled = [s * p for s, p in zip(strides, x.shape[1:-1], strict=True)]
    pads = resolve_padding(padding, upsampled, kernel.shape[:-2], strides, dilation)
    spatial = tuple(
        s * (p - 1) + d * (k - 1) + 1 - sum(pad) + extra
        for s, p, d, k, pad, extra in zip(strides, x.shape[1:-1], dilation, kernel.shape, pads, more, strict=False)
    )
    if min(spatial) < 1:
        raise ValueError(f"padding {pads} leaves nothing of the output {spatial}")
    finer = jax.ShapeDtypeStruct((x.shape[0], *spatial, kernel.shape[-2] * groups), x.dtype)

    def forward(finer: jax.Array) -> jax.Array:
        return correlate(finer, kernel, strides=strides, padding=pads, dilation=dilation, groups=groups)

    (result,) = jax.linear_transpose(forward, finer)(x)
    return result


def choose_lowering(kernel: Sequence[int], first_stride: int, groups: int = 1) -> Lowering:
    """The form that is computed, for a kernel [*window, C / groups, F].

    On a CPU the fastest one, by measurement (`experiments/lowerings.py`): of depthwise kernels shifts, of other groups
    a product of rows each; without groups one product of patches where channels are few, such as those of images, or
    rows are skipped, and of rows elsewhere. XLA's own grouped form takes ten to a hundred times as long inside a loop.
    On any other backend XLA's convolution, where nothing has been measured yet.
    """
    *window, channels, _ = kernel
    if jax.default_backend() != "cpu":
        return "xla"
    if groups > 1 and channels > 1:
        return "rows"
    if groups > 1 and math.prod(window) <= _MOST_SHIFTS:
        return "shifts"
    return "patches" if channels <= _MOST_PATCH_CHANNELS or first_stride > 1 else "rows"
