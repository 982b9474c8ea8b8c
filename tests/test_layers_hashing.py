"""PCANet's layers against loops over maps and blocks in NumPy."""

import jax
import numpy as np
import pytest

from cnnjax.layers.convolution import Conv
from cnnjax.layers.hashing import EachChannel, SignHistograms
from tests.variables import drawn_variables


@pytest.mark.parametrize("spatial", [(5,), (3, 4)])
def test_every_channel_meets_the_same_filters(spatial: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(2, *spatial, 3)).astype(np.float32)
    conv = Conv(2, 3)
    layer = EachChannel(conv)
    variables = drawn_variables(layer, x.shape)
    assert variables["params"]["layer"]["kernel"].shape == (*(3,) * len(spatial), 1, 2)
    found = jax.jit(layer.apply)(variables, x)
    alone = jax.jit(lambda x: conv.apply({"params": variables["params"]["layer"]}, x))
    for c in range(3):
        np.testing.assert_allclose(found[..., 2 * c : 2 * c + 2], alone(x[..., c : c + 1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (2, 1)])
def test_histograms_of_signs(window: int, stride: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4)).astype(np.float32)
    found = jax.jit(SignHistograms(2, window).apply)({}, x)
    down, across = ((size - window) // stride + 1 for size in (5, 6))
    assert found.shape == (2, down, across, 2 * 4)
    for n, i, j, m in np.ndindex(2, down, across, 2):
        counts = np.zeros(4)
        for p, q in np.ndindex(window, window):
            low, high = x[n, stride * i + p, stride * j + q, 2 * m : 2 * m + 2] > 0
            counts[low + 2 * high] += 1
        np.testing.assert_allclose(found[n, i, j, 4 * m : 4 * m + 4], counts / window**2, rtol=1e-6)


def test_no_gradient_passes_a_sign() -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 2)).astype(np.float32)
    slope = jax.jit(jax.grad(lambda x: (SignHistograms(2, 2).apply({}, x) ** 2).sum()))(x)
    np.testing.assert_array_equal(slope, 0)
