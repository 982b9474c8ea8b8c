"""Patches, against slices of the padded input."""

import itertools

import jax
import numpy as np
import pytest

from cnnjax.ops.patches import extract_patches


def test_a_patch_is_laid_out_as_the_kernel_is() -> None:
    x = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
    options = {"strides": (2, 1), "padding": ((0, 0), (1, 2)), "dilation": (1, 2)}
    found = jax.jit(lambda x: extract_patches(x, (2, 3), **options))(x)
    assert found.shape == (2, 2, 4, 2 * 3 * 3)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 0)))
    for n, i, j in itertools.product(range(2), range(2), range(4)):
        window = padded[n, 2 * i : 2 * i + 2, j : j + 5 : 2, :]
        np.testing.assert_array_equal(found[n, i, j], window.ravel())


def test_window_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a window of 5 does not fit in 4"):
        extract_patches(np.ones((1, 3, 1)), (3,), strides=(1,), padding=((0, 1),), dilation=(2,))
