"""Windows that slide over a grid: output sizes and borders, the same for convolution and pooling."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cnnjax.ops.borders import Border, extended_sites


@dataclasses.dataclass(frozen=True)
class UpTo:
    """Padding as `same`, but none beyond a grid of `size`: with 32 an image of 28 is padded, and one of 32 is not."""

    size: int


Padding = str | int | Sequence[tuple[int, int]] | UpTo


def per_dimension(value: int | Sequence[int], dimensions: int, what: str) -> tuple[int, ...]:
    """One number for each spatial dimension: an int is repeated.

    Raises:
      ValueError: if a sequence has another length, or a number is not positive.
    """
    values = (value,) * dimensions if isinstance(value, int) else tuple(value)
    if len(values) != dimensions or min(values) < 1:
        raise ValueError(f"{what} must be a positive number, or {dimensions} of them; given {value}")
    return values


def output_size(
    size: int, window: int, stride: int = 1, pad: tuple[int, int] = (0, 0), dilation: int = 1, *, exact: bool = False
) -> int:
    """How many positions a window takes along one dimension: floor((I - F + P_start + P_end) / S) + 1.

    The formula of the lectures, where F is the window's extent, dilation * (window - 1) + 1. Positions that do not
    fit whole are dropped.

    Args:
      size: the input's, I.
      window: elements of the window.
      stride: between two positions, S.
      pad: elements added before and after, P.
      dilation: between two elements of the window.
      exact: whether the formula must give a whole number without rounding.

    Raises:
      ValueError: if the window does not fit once, or some elements are left over and `exact` is asked for.
    """
    if min(window, stride, dilation) < 1:
        raise ValueError(f"window {window}, stride {stride} and dilation {dilation} must be positive")
    extent = dilation * (window - 1) + 1
    room = size + sum(pad) - extent
    if room < 0:
        raise ValueError(f"a window of {extent} does not fit in {size} with {pad[0]} + {pad[1]} of padding")
    if exact and room % stride:
        raise ValueError(
            f"({size} - {extent} + {pad[0]} + {pad[1]}) / {stride} + 1 = {room / stride + 1:g} positions are no whole "
            f"number; {room % stride} elements less of input or padding would do"
        )
    return room // stride + 1


def resolve_padding(
    padding: Padding,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """The numbers of elements added before and after each spatial dimension.

    Args:
      padding: `valid` (none); `same` (output size ceil(input / stride), the odd one after); `full` (every position that
        meets the input at all); `causal` (along the first dimension, time, all before, so that no position sees what
        comes later; `same` along the others); `UpTo`; a number for both sides of every dimension; or a pair for each
        dimension.
      sizes: the input's spatial sizes; `window`, `strides` and `dilation` are as long.

    Raises:
      ValueError: for another word, or pairs of another length.
    """
    if padding == "valid":
        return ((0, 0),) * len(sizes)
    extents = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    if padding == "full":
        return tuple((extent - 1, extent - 1) for extent in extents)
    if isinstance(padding, UpTo) or padding in ("same", "causal"):
        same = []
        for size, extent, s in zip(sizes, extents, strides, strict=True):
            total = max((-(-size // s) - 1) * s + extent - size, 0)
            if isinstance(padding, UpTo):
                total = min(total, max(padding.size - size, 0))
            same.append((total // 2, total - total // 2))
        return ((extents[0] - 1, 0), *same[1:]) if padding == "causal" else tuple(same)
    pairs = [(padding, padding)] * len(sizes) if isinstance(padding, int) else padding
    if isinstance(pairs, str) or len(pairs) != len(sizes):
        raise ValueError(
            f"padding must be valid, same, full, causal, a number or {len(sizes)} pairs; given {padding!r}"
        )
    if min(map(min, pairs), default=0) < 0:
        raise ValueError(f"padding must not be negative; given {padding!r}")
    return tuple((int(before), int(after)) for before, after in pairs)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Where the windows of a convolution or pooling lie on a grid, in numbers for each spatial dimension.

    Attributes:
      spatial: the grid's sizes.
      window: the window's.
      strides: between two positions.
      padding: elements added before and after.
      dilation: between two elements of the window.
      positions: how many the window takes.
    """

    spatial: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    positions: tuple[int, ...]

    @property
    def are_padded(self) -> bool:
        """Whether any padding is added."""
        return any(map(any, self.padding))

    def sites(self, border: Border = "zeros") -> np.ndarray:
        """Which element of the grid each element of the window meets at each position.

        Args:
          border: what the padding holds; see `cnnjax.ops.borders.extend`.

        Returns:
          The element's number on the flattened grid, or -1 where it is a constant: integers [prod(positions),
          prod(window)].

        Raises:
          ValueError: as `extend` does.
        """
        dimensions = len(self.spatial)
        columns = (dimensions, 1, 1)
        position = np.indices(self.positions).reshape(dimensions, -1, 1)
        offset = np.indices(self.window).reshape(dimensions, 1, -1)
        place = np.reshape(self.strides, columns) * position + np.reshape(self.dilation, columns) * offset
        return extended_sites(self.spatial, self.padding, border)[tuple(place)]


def place_windows(
    spatial: Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    exact: bool = False,
) -> Windows:
    """The windows of these settings on a grid, in numbers.

    Args:
      spatial: the grid's sizes.
      window: one size for all dimensions or one each, as are `strides` and `dilation`.
      padding: see `resolve_padding`.
      exact: whether the windows must fit without a rest.

    Raises:
      ValueError: if the settings are not positive or not of as many dimensions as the grid, the window does not fit
        once, or not exactly where that is asked for.
    """
    sizes = per_dimension(window, len(spatial), "the window")
    strides = per_dimension(strides, len(spatial), "strides")
    dilation = per_dimension(dilation, len(spatial), "dilation")
    pads = resolve_padding(padding, spatial, sizes, strides, dilation)
    along = zip(spatial, sizes, strides, pads, dilation, strict=True)
    positions = tuple(output_size(*settings, exact=exact) for settings in along)
    return Windows(tuple(spatial), sizes, strides, pads, dilation, positions)
