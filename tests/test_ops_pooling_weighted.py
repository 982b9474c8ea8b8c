"""Gaussian- and distance-weighted averages against loops over windows."""

import functools
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from cnnjax.ops.pooling import distance_pool, gaussian_pool
from tests.pooling_cases import Case, cases, drawn_cotangent, positions, pulled_back


def centred(window: tuple[int, ...]) -> list[tuple[float, ...]]:
    """The places of the window, counted from its middle."""
    return [
        tuple(i - (k - 1) / 2 for i, k in zip(place, window, strict=True))
        for place in itertools.product(*map(range, window))
    ]


@given(cases(low=-5, high=6))
def test_each_position_averages_what_it_sees_by_its_weights(case: Case) -> None:
    places = centred(case.window)
    sigma = 0.8
    weights = [
        [math.exp(-sum(d**2 for d in place) / (2 * sigma**2)) for place in places],
        [math.exp(-8 * sum((d / k) ** 2 for d, k in zip(place, case.window, strict=True))) for place in places],
        [1 / (1 + math.dist(place, [0] * len(place))) for place in places],
    ]
    pools = [
        functools.partial(gaussian_pool, window=case.window, sigma=sigma),
        functools.partial(gaussian_pool, window=case.window),
        functools.partial(distance_pool, window=case.window),
    ]
    cotangent = drawn_cotangent(case)
    for weight, (value, gradient) in zip(weights, pulled_back(case, pools, cotangent), strict=True):
        expected = np.zeros(case.x.shape)
        for at, inside, part in positions(case):
            share = np.reshape(weight, case.window)[part]
            share = share[None, ..., None] / share.sum()
            np.testing.assert_allclose(value[at], (share * case.x[inside]).sum(case.axes), rtol=1e-4, atol=1e-5)
            expected[inside] += share * np.expand_dims(cotangent[at], case.axes)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_distance_weights_by_hand() -> None:
    x = np.array([1, 10, 100], np.float32).reshape(1, 3, 1)
    np.testing.assert_allclose(distance_pool(x, 3).ravel(), [(0.5 + 10 + 50) / 2], rtol=1e-6)
    np.testing.assert_allclose(
        distance_pool(x, 3, strides=1, padding=1).ravel(), [(1 + 5) / 1.5, 60.5 / 2, (5 + 100) / 1.5], rtol=1e-6
    )


@pytest.mark.parametrize("sigma", [0, -1])
def test_wrong_sigmas_are_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be positive"):
        gaussian_pool(jnp.ones((1, 4, 1)), 2, sigma=sigma)
