"""Output sizes and borders, against counting and against XLA's own rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from cnnjax.ops.geometry import UpTo, output_size, per_dimension, place_windows, resolve_padding

SMALL = st.integers(1, 5)


@settings(max_examples=100)
@given(st.integers(1, 30), SMALL, SMALL, st.integers(0, 4), st.integers(0, 4), SMALL)
def test_output_size_counts_the_windows_that_fit(
    size: int, window: int, stride: int, before: int, after: int, dilation: int
) -> None:
    starts = range(-before, size + after, stride)
    fitting = [start for start in starts if start + dilation * (window - 1) < size + after]
    if fitting:
        assert output_size(size, window, stride, (before, after), dilation) == len(fitting)
    else:
        with pytest.raises(ValueError, match="does not fit"):
            output_size(size, window, stride, (before, after), dilation)


def test_output_size_of_alexnet() -> None:
    assert output_size(227, 11, 4) == 55


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 20), SMALL, SMALL, SMALL), min_size=1, max_size=3))
def test_same_padding_is_that_of_xla(axes: list[tuple[int, int, int, int]]) -> None:
    sizes, window, strides, dilation = map(list, zip(*axes, strict=True))
    extent = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    pads = resolve_padding("same", sizes, window, strides, dilation)
    assert list(pads) == lax.padtype_to_pads(sizes, extent, strides, "SAME")
    for size, k, s, pad, d in zip(sizes, window, strides, pads, dilation, strict=True):
        assert output_size(size, k, s, pad, d) == -(-size // s)


def test_padding_in_words_numbers_and_pairs() -> None:
    shape = {"sizes": (8, 8), "window": (3, 3), "strides": (1, 1), "dilation": (1, 1)}
    assert resolve_padding("valid", **shape) == ((0, 0), (0, 0))
    assert resolve_padding("same", **shape) == ((1, 1), (1, 1))
    assert resolve_padding(2, **shape) == ((2, 2), (2, 2))
    assert resolve_padding([(0, 1), (2, 3)], **shape) == ((0, 1), (2, 3))


@pytest.mark.parametrize(
    ("size", "pad"), [(8, (2, 2)), (28, (2, 2)), (29, (1, 2)), (31, (0, 1)), (32, (0, 0)), (64, (0, 0))]
)
def test_padding_up_to_a_grid(size: int, pad: tuple[int, int]) -> None:
    assert resolve_padding(UpTo(32), (size,), (5,), (1,), (1,)) == (pad,)


def test_the_odd_one_of_same_padding_comes_after() -> None:
    assert resolve_padding("same", (8,), (4,), (1,), (1,)) == ((1, 2),)


@pytest.mark.parametrize("padding", ["whole", [(1, 1)], [(1, 1)] * 3])
def test_wrong_padding_is_refused(padding: str | list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="valid, same, full, causal, a number or 2 pairs"):
        resolve_padding(padding, (8, 8), (3, 3), (1, 1), (1, 1))


def test_one_number_serves_every_dimension() -> None:
    assert per_dimension(3, 2, "strides") == (3, 3)
    assert per_dimension([1, 2, 3], 3, "strides") == (1, 2, 3)


@pytest.mark.parametrize("value", [0, -1, (1, 0), (1,), (1, 2, 3)])
def test_per_dimension_refuses_what_is_not_positive_or_of_another_length(
    value: int | tuple[int, ...],
) -> None:
    with pytest.raises(ValueError, match="strides must be a positive number, or 2 of them"):
        per_dimension(value, 2, "strides")


@pytest.mark.parametrize("numbers", [(0, 1, 1), (3, 0, 1), (3, 1, 0)])
def test_sizes_that_make_no_window_are_refused(numbers: tuple[int, int, int]) -> None:
    window, stride, dilation = numbers
    with pytest.raises(ValueError, match="must be positive"):
        output_size(9, window, stride, dilation=dilation)


@pytest.mark.parametrize("padding", [-1, [(0, 0), (1, -1)]])
def test_negative_padding_is_refused(padding: int | list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="padding must not be negative"):
        resolve_padding(padding, (5, 5), (3, 3), (1, 1), (1, 1))


def test_full_and_causal_padding() -> None:
    assert resolve_padding("full", (9, 9), (3, 5), (1, 1), (2, 1)) == ((4, 4), (4, 4))
    assert resolve_padding("causal", (9, 9), (3, 5), (1, 1), (2, 1)) == ((4, 0), (2, 2))


def test_sites_of_a_padded_and_dilated_window() -> None:
    windows = place_windows((4,), (2,), strides=2, padding=1, dilation=2)
    assert windows.positions == (2,)
    np.testing.assert_array_equal(windows.sites(), [[-1, 1], [1, 3]])
    np.testing.assert_array_equal(windows.sites("circular"), [[3, 1], [1, 3]])
    np.testing.assert_array_equal(windows.sites("reflect"), [[1, 1], [1, 3]])


def test_windows_in_numbers_for_each_dimension() -> None:
    windows = place_windows((9, 8), 3, strides=(2, 1), padding="same")
    assert (windows.spatial, windows.window, windows.strides, windows.dilation) == ((9, 8), (3, 3), (2, 1), (1, 1))
    assert (windows.padding, windows.positions, windows.are_padded) == (((1, 1), (1, 1)), (5, 8), True)
    assert not place_windows((9,), 3).are_padded


def test_windows_that_leave_a_rest_are_refused_where_exactness_is_asked_for() -> None:
    assert place_windows((9, 8), 3, strides=2).positions == (4, 3)
    with pytest.raises(ValueError, match=r"\(8 - 3 \+ 0 \+ 0\) / 2 \+ 1 = 3.5 positions are no whole number"):
        place_windows((9, 8), 3, strides=2, exact=True)
    assert place_windows((9, 7), 3, strides=2, exact=True).positions == (4, 3)
