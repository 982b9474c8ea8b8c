"""Signals moved, stretched, amplified and spoilt, against SciPy and exact cases."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cnnjax.ops.transformations import gain, shift, signal_noise, stretch

SIGNALS = np.random.default_rng(0).normal(size=(2, 9, 2)).astype(np.float32)
delay, lengthen = jax.jit(shift), jax.jit(stretch)


@given(st.floats(-20, 20, width=32), st.floats(-1.5, 1.5, width=32))
def test_moved_and_stretched_as_by_scipy(samples: float, octaves: float) -> None:
    moved = ndimage.shift(SIGNALS, (0, samples, 0), order=1, mode="grid-wrap")
    np.testing.assert_allclose(delay(SIGNALS, samples), moved, atol=1e-4)
    factor = 2.0**-octaves
    long = ndimage.affine_transform(SIGNALS, [1, factor, 1], [0, 4 - 4 * factor, 0], order=1, mode="nearest")
    np.testing.assert_allclose(lengthen(SIGNALS, octaves), long, atol=1e-4)


def test_exact_cases() -> None:
    np.testing.assert_array_equal(delay(SIGNALS, 4), np.roll(SIGNALS, 4, 1))
    np.testing.assert_array_equal(shift(SIGNALS, 1, border="edge"), SIGNALS[:, [0, 0, *range(1, 8)]][:, :9])
    np.testing.assert_array_equal(lengthen(SIGNALS, -1), SIGNALS[:, [0, 0, 0, 2, 4, 6, 8, 8, 8]])
    np.testing.assert_array_equal(lengthen(SIGNALS, 1)[:, ::2], SIGNALS[:, 2:7])
    np.testing.assert_allclose(gain(SIGNALS, 20), 10 * SIGNALS, rtol=1e-5)
    np.testing.assert_allclose(gain(SIGNALS, np.array([-20, 6.0206])), SIGNALS * [[[0.1]], [[2]]], rtol=1e-5)


def test_noise_is_measured_in_the_signal_s_deviations() -> None:
    signals = np.random.default_rng(1).normal(3, [[[2]], [[7]], [[1]]], (3, 4000, 1)).astype(np.float32)
    added = np.asarray(signal_noise(signals, np.array([0.5, 1, 0]), jax.random.key(0))) - signals
    np.testing.assert_allclose(added.std((1, 2)), [1, 7, 0], rtol=0.06)
    np.testing.assert_allclose(added.mean((1, 2)), 0, atol=0.4)


def test_a_constant_signal_gets_no_noise_and_has_a_gradient() -> None:
    constant = np.full((1, 5, 1), 2, np.float32)
    cotangent = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    value, back = jax.vjp(lambda x: signal_noise(x, 0.5, jax.random.key(0)), constant)
    np.testing.assert_array_equal(value, constant)
    np.testing.assert_array_equal(back(cotangent)[0], cotangent)
