"""Antialiased down-sampling: a low-pass filter before the stride (Zhang 2019, Making Convolutional Networks Shift-
Invariant Again)."""

import math
from collections.abc import Sequence

import jax
import numpy as np

from cnnjax.ops.borders import Border, extend
from cnnjax.ops.geometry import Padding, per_dimension
from cnnjax.ops.pooling.extremes import max_pool
from cnnjax.ops.pooling.windows import pooling_windows, weigh_windows


def binomial_kernel(size: int) -> np.ndarray:
    """The row of Pascal's triangle with `size` numbers over its sum: [1, 2, 1] / 4 for 3. float64 [size].

    Raises:
      ValueError: if the size is not positive.
    """
    if size < 1:
        raise ValueError(f"a binomial kernel has a positive size; given {size}")
    return np.array([math.comb(size - 1, i) for i in range(size)]) / 2 ** (size - 1)


def centred_padding(window: int | Sequence[int], dimensions: int) -> tuple[tuple[int, int], ...]:
    """The padding of Zhang 2019, window - 1 in all, which leaves ceil(input / stride) positions, from the first one on.

    It differs from `same`, which moves the positions when the stride does not divide evenly.
    """
    sizes = per_dimension(window, dimensions, "the blur's window")
    return tuple(((k - 1) // 2, k // 2) for k in sizes)


def blur_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding | None = None,
    exact: bool = False,
    border: Border = "reflect",
) -> jax.Array:
    """Each channel blurred with the binomial kernel along every spatial dimension, then taken every `strides`-th place.

    Arguments, shapes and errors as in `max_pool`, except

    Args:
      window: the kernel's size.
      padding: that of `centred_padding` when None, as in the paper.
      border: what the padding holds, see `cnnjax.ops.borders.extend`; the paper's is `reflect`.
    """
    windows = pooling_windows(
        x, window, strides, centred_padding(window, x.ndim - 2) if padding is None else padding, exact
    )
    kernels = [binomial_kernel(k) for k in windows.window]
    return weigh_windows(extend(x, windows.padding, border), kernels, windows.strides)


def max_blur_pool(
    x: jax.Array,
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    exact: bool = False,
    blur: int = 3,
    border: Border = "reflect",
) -> jax.Array:
    """The greatest value of each window at stride 1, then `blur_pool` at the strides: Zhang's MaxBlurPool.

    It has as many positions as `max_pool` with the same arguments. Arguments, shapes and errors as there, and

    Args:
      padding: for the windows of the maximum, in which it never wins; `same` means that of stride 1.
      blur: the size of the blur's kernel; along a dimension of n maxima at most 2 n - 1.
      border: what lies past the border of the maxima when they are blurred.
    """
    dense_windows = pooling_windows(x, window, 1, padding, exact=False)
    sizes, pads = dense_windows.window, dense_windows.padding
    strides = sizes if strides is None else strides
    pooling_windows(x, sizes, strides, pads, exact)
    dense = max_pool(x, sizes, strides=1, padding=pads)
    # A kernel that reaches past the mirror image of a small grid has nothing to blur there.
    reach = tuple(min(blur, 2 * size - 1) for size in dense.shape[1:-1])
    return blur_pool(dense, reach, strides=strides, border=border)
