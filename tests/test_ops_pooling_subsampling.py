"""Subsampling against loops over windows."""

import functools

import numpy as np
from hypothesis import given

from cnnjax.ops.pooling import subsample
from tests.pooling_cases import Case, cases, drawn_cotangent, positions, pulled_back


@given(cases(low=-50, high=50))
def test_each_position_is_the_element_nearest_the_centre(case: Case) -> None:
    cotangent = drawn_cotangent(case)
    ((value, gradient),) = pulled_back(case, [functools.partial(subsample, window=case.window)], cotangent)
    expected = np.zeros(case.x.shape)
    for at, inside, part in positions(case):
        middle = [(k - 1) // 2 for k in case.window]
        nearest = [min(max(m, p.start), p.stop - 1) - p.start for m, p in zip(middle, part, strict=True)]
        place = (slice(None), *(i.start + n for i, n in zip(inside[1:], nearest, strict=True)))
        np.testing.assert_array_equal(value[at], case.x[place])
        expected[place] += cotangent[at]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_windows_of_two_and_centred_windows_take_every_second_from_the_first() -> None:
    x = np.arange(8).reshape(1, 8, 1)
    np.testing.assert_array_equal(subsample(x, 2).ravel(), [0, 2, 4, 6])
    np.testing.assert_array_equal(subsample(x, 3, strides=2, padding=1).ravel(), [0, 2, 4, 6])
    np.testing.assert_array_equal(subsample(x, 3, strides=2).ravel(), [1, 3, 5])
