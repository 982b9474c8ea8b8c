"""Patches at random places, against explicit slices; their contrast, against NumPy."""

import itertools

import jax
import numpy as np
import pytest

from cnnjax.filters.patches import contrast_normalise, sample_patches


@pytest.mark.parametrize(("shape", "window"), [((2, 5, 2), (3,)), ((2, 3, 4, 2), (2, 3)), ((2, 3, 2, 3, 1), (2, 1, 2))])
def test_each_patch_is_a_slice_laid_out_as_the_kernel_is_and_every_place_is_drawn(
    shape: tuple[int, ...], window: tuple[int, ...]
) -> None:
    x = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)  # all values differ: a patch tells its place
    places = itertools.product(*(range(size - k + 1) for size, k in zip(shape[1:-1], window, strict=True)))
    slices = [tuple(slice(i, i + k) for i, k in zip(place, window, strict=True)) for place in places]
    expected = {tuple(image[place].ravel().tolist()) for image in x for place in slices}
    found = jax.jit(lambda key: sample_patches(key, x, window, 300))(jax.random.key(0))
    assert found.dtype == np.uint8
    assert found.shape == (300, np.prod(window) * shape[-1])
    assert {tuple(patch.tolist()) for patch in np.asarray(found)} == expected


def test_image_and_place_are_drawn_uniformly_and_apart_from_one_another() -> None:
    x = np.arange(3 * 4).reshape(3, 4, 1)
    first = np.asarray(sample_patches(jax.random.key(1), x, (2,), 9000))[:, 0]
    counts = np.bincount(first, minlength=12).reshape(3, 4)
    assert np.all(counts[:, 3] == 0)
    np.testing.assert_allclose(counts[:, :3], 1000, atol=150)  # five standard deviations


def test_the_key_decides_what_is_drawn() -> None:
    x = np.arange(40).reshape(1, 40, 1)
    one, again, other = (np.asarray(sample_patches(jax.random.key(k), x, (1,), 20)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)


@pytest.mark.parametrize("window", [(5,), (0,), (2, 2)])
def test_window_that_does_not_fit_is_refused(window: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a window of \(.*\) does not fit in images of \(4,\)"):
        sample_patches(jax.random.key(0), np.zeros((1, 4, 1)), window, 1)


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_contrast_at_any_scale_against_numpy(epsilon: float) -> None:
    rng = np.random.default_rng(0)
    patches = (rng.normal(size=(6, 8)) * np.arange(6)[:, None] + 3).astype(np.float32)  # the first has no contrast
    variance = patches.astype(np.float64).var(axis=1, keepdims=True)
    centred = patches - patches.astype(np.float64).mean(axis=1, keepdims=True)
    regularised = np.sqrt(variance + epsilon * variance.mean())
    expected = np.divide(centred, regularised, out=np.zeros_like(centred), where=regularised > 0)
    np.testing.assert_allclose(contrast_normalise(patches, epsilon), expected, atol=2e-5)
    np.testing.assert_allclose(contrast_normalise(100 * patches, epsilon), expected, atol=2e-5)
