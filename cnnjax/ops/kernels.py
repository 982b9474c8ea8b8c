"""The classic kernels of image processing, by name, as float32 arrays [*window]."""

import functools
import math
from types import MappingProxyType

import numpy as np


def identity(size: int = 3, dimensions: int = 2) -> np.ndarray:
    """1 at the centre and 0 elsewhere: [size] * dimensions, float32. Leaves any input as it is.

    Raises:
      ValueError: if `size` is not odd and positive, or `dimensions` not positive.
    """
    _check(size, dimensions)
    if size % 2 == 0:
        raise ValueError(f"only an odd window has a centre; given {size}")
    centre = np.zeros(size)
    centre[size // 2] = 1
    return _product(centre, dimensions)


def box(size: int, dimensions: int = 2) -> np.ndarray:
    """The mean of the window: [size] * dimensions, float32, all elements equal and 1 in all.

    Raises:
      ValueError: if `size` or `dimensions` is not positive.
    """
    _check(size, dimensions)
    return _product(np.full(size, 1 / size), dimensions)


def binomial(size: int, dimensions: int = 2) -> np.ndarray:
    """A Gaussian blur by binomial coefficients, of variance (size - 1) / 4: [size] * dimensions, float32, 1 in all.

    Raises:
      ValueError: if `size` or `dimensions` is not positive.
    """
    _check(size, dimensions)
    return _product(np.array([math.comb(size - 1, i) for i in range(size)]) / 2 ** (size - 1), dimensions)


def _check(size: int, dimensions: int) -> None:
    if size < 1 or dimensions < 1:
        raise ValueError(f"a kernel needs a positive size and number of dimensions; given {size} and {dimensions}")


def _product(along: np.ndarray, dimensions: int) -> np.ndarray:
    """k[i, j, ...] = along[i] along[j] ... ."""
    return functools.reduce(np.multiply.outer, [along] * dimensions).astype(np.float32)


def _fixed(kernel: object) -> np.ndarray:
    array = np.array(kernel, np.float32)
    array.flags.writeable = False
    return array


KERNELS = MappingProxyType(
    {
        "identity": _fixed(identity()),
        "difference": _fixed([[-1, 1]]),
        "edges": _fixed([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
        "sobel_columns": _fixed([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        "sobel_rows": _fixed([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        "sharpen": _fixed([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        "sharpen_box": _fixed(2 * identity() - box(3)),
        "box": _fixed(box(3)),
        "gaussian_3x3": _fixed(binomial(3)),
        "gaussian_5x5": _fixed(binomial(5)),
        "unsharp_3x3": _fixed(2 * identity() - binomial(3)),
        "unsharp_5x5": _fixed(2 * identity(5) - binomial(5)),
        "shift_left": _fixed([[0, 0, 0], [1, 0, 0], [0, 0, 0]]),
    }
)
"""Where they are printed in the lectures (file, line), and what they do:

- `identity` (000_62aab441bdec7d37.txt, 182): the image itself.
- `difference` [1, 2] (000, 429): a pixel minus the one to its left, if correlated.
- `edges` (000, 184): 9 times a pixel minus the sum of the 3 x 3 around it.
- `sharpen` (000, 186): a pixel plus its differences from the four neighbours.
- `box` (000, 194; 002_99c791af916edae9.txt, 885): the mean of 3 x 3.
- `gaussian_3x3` (000, 196), and its relative of 5 x 5, which no lecture prints.
- `unsharp_3x3` (000, 198): twice the image minus `gaussian_3x3` of it; with 5 x 5, again, not printed.
- `sharpen_box` (002, 895): twice the image minus `box` of it.
- `shift_left` (002, 880): the image one pixel to the left, if convolved; correlated, to the right.
- `sobel_columns` and `sobel_rows` (not in the lectures; Sobel and Feldman 1968): 8 times the slope from column to
  column, or from row to row, if correlated.

The others are symmetric: to convolve and to correlate with them is the same. Correlation takes them as
kernel[..., None, None], one channel to one feature map.
"""
