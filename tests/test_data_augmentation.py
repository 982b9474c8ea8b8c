"""Augmentation against NumPy: every shift and flip there can be, and a draw of its own for each place."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.data.augmentation import AUGMENTATIONS, Augmentation, augment, check_augmentation, flip, shift
from cnnjax.ops.transformations.table import TRANSFORMATIONS, transformation

augmented = jax.jit(augment, static_argnums=3)

BOTH = Augmentation(("shift", "flip"), max_shift=1)
IMAGE = np.random.default_rng(0).integers(1, 256, (4, 5, 2), np.uint8)


def shifted(image: np.ndarray, by: tuple[int, ...]) -> np.ndarray:
    """An image moved by so many pixels along each axis, towards higher indices; zeros come in."""
    result = np.zeros_like(image)
    source = tuple(slice(max(-b, 0), size - max(b, 0)) for b, size in zip(by, image.shape, strict=False))
    target = tuple(slice(max(b, 0), size - max(-b, 0)) for b, size in zip(by, image.shape, strict=False))
    result[target] = image[source]
    return result


def all_shifts(image: np.ndarray, most: int) -> dict[bytes, tuple[int, ...]]:
    """The shift that gives each image."""
    every = itertools.product(range(-most, most + 1), repeat=image.ndim - 1)
    return {shifted(image, by).tobytes(): by for by in every}


def many(change: Callable[..., jax.Array], image: np.ndarray, draws: int, most: int) -> np.ndarray:
    """The image changed with so many keys."""
    keys = jax.random.split(jax.random.key(0), draws)
    return np.asarray(jax.jit(jax.vmap(lambda key: change(jnp.asarray(image), key, most)))(keys))


@pytest.mark.parametrize(("shape", "most"), [((7, 2), 3), ((4, 5, 2), 2), ((3, 4, 5, 1), 1)])
def test_shift_does_each_shift_as_often_as_another(shape: tuple[int, ...], most: int) -> None:
    image = np.random.default_rng(1).integers(1, 256, shape, np.uint8)
    expected = all_shifts(image, most)
    draws = 40 * len(expected)
    results = many(shift, image, draws, most)
    drawn = [expected[result.tobytes()] for result in results]
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    # Each count is binomial with mean 40 and standard deviation below 6.4.
    assert len(counts) == len(expected)
    assert np.all(np.abs(counts - 40) < 5 * 6.4)


@pytest.mark.parametrize("shape", [(6, 2), (4, 5, 2), (3, 4, 5, 1)])
def test_flip_mirrors_the_last_axis_half_of_the_times(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    results = many(flip, image, 400, 2)
    mirrored = [np.array_equal(result, image[..., ::-1, :]) for result in results]
    assert all(m or np.array_equal(result, image) for m, result in zip(mirrored, results, strict=True))
    assert abs(sum(mirrored) - 200) < 5 * 10  # binomial: standard deviation 10


def test_augmentations_draw_independently() -> None:
    images = jnp.broadcast_to(IMAGE, (720, *IMAGE.shape))
    first, second = (np.asarray(augmented(images, jax.random.key(seed), jnp.arange(720), BOTH)) for seed in (0, 1))
    expected = {
        np.ascontiguousarray(turned).tobytes()
        for by in itertools.product((-1, 0, 1), repeat=2)
        for turned in (shifted(IMAGE, by), shifted(IMAGE, by)[:, ::-1])
    }
    assert len(expected) == 18
    assert {image.tobytes() for image in first} == expected
    assert not np.array_equal(first, second)


def test_augmentation_named_twice_draws_twice() -> None:
    images = jnp.broadcast_to(IMAGE[:1, :2], (40, 1, 2, 2))
    once = np.asarray(augmented(images, jax.random.key(0), jnp.arange(40), Augmentation(("flip", "flip"), 1)))
    assert {image.tobytes() for image in once} == {IMAGE[:1, :2].tobytes(), IMAGE[:1, 1::-1].tobytes()}


def test_change_depends_on_the_place_in_the_whole_batch_alone() -> None:
    images = np.random.default_rng(3).integers(0, 256, (12, 6, 6, 1), np.uint8)

    def changed(places: np.ndarray) -> np.ndarray:
        return np.asarray(
            augmented(images[places], jax.random.key(7), jnp.asarray(places), Augmentation(("shift", "flip"), 2))
        )

    whole = changed(np.arange(8))
    assert np.array_equal(changed(np.arange(8)[::-1]), whole[::-1])
    assert np.array_equal(changed(np.arange(4, 12))[:4], whole[4:])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_dtype_and_shape_are_kept(dtype: type) -> None:
    images = jax.ShapeDtypeStruct((3, 4, 5, 1), dtype)
    result = jax.eval_shape(lambda x: augment(x, jax.random.key(0), jnp.arange(3), BOTH), images)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)


def test_no_names_change_nothing() -> None:
    images = jnp.asarray(IMAGE[None])
    assert np.array_equal(augment(images, jax.random.key(0), jnp.arange(1), Augmentation((), 2)), images)


@pytest.mark.parametrize(
    "name",
    [
        n if n in ("noise", "gain") else pytest.param(n, marks=pytest.mark.slow)
        for n in sorted(set(TRANSFORMATIONS) - set(AUGMENTATIONS))
    ],
)
def test_transformation_by_magnitudes_drawn_from_a_share_of_its_range(name: str) -> None:
    entry = TRANSFORMATIONS[name]
    image = np.random.default_rng(4).integers(0, 256, (8, 7, 1)[-entry.dimensions - 1 :], np.uint8)
    images, places = jnp.broadcast_to(image, (6, *image.shape)), jnp.arange(6)
    found = augmented(images, jax.random.key(3), places, Augmentation((name,)), 0.5)
    own = [jax.random.fold_in(jax.random.fold_in(jax.random.key(3), place), 0) for place in range(6)]
    low, high = (0.5 * end for end in entry.range)
    drawn = [jax.random.uniform(jax.random.fold_in(key, 0), minval=low, maxval=high) for key in own]
    keys = jnp.stack([jax.random.fold_in(key, 1) for key in own])
    expected = transformation(name)(images.astype(jnp.float32), jnp.stack(drawn), keys)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert len({np.asarray(result).tobytes() for result in found}) == 6


def test_transformations_have_settings() -> None:
    images = jnp.ones((20, 4, 4, 1))
    kept, lost = (
        augmented(images, jax.random.key(0), jnp.arange(20), Augmentation((name,), 2, 0.5)).sum(axis=(1, 2, 3))
        for name in ("translation", "translation(border=zeros)")
    )
    np.testing.assert_allclose(kept, 16, rtol=1e-6)
    assert float(lost.max()) < 16


def test_legal_pixels_are_those_of_the_data() -> None:
    images = jnp.full((5, 4, 4, 1), 0.9)
    changed = augmented(images, jax.random.key(0), jnp.arange(5), Augmentation(("clutter",), 2, 0.0, 1.0), 1.0)
    assert float(changed.max()) <= 1
    assert float(jnp.ptp(changed)) > 0.01


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("flip", "rotatoin"), "unknown augmentation 'rotatoin'; did you mean 'rotation'"),
        (("gain",), "gain is for 1 spatial dimensions; the data have 2"),
        (("rotation(border=wrapped)",), "unknown border 'wrapped'; there are: circular, zeros, edge"),
    ],
)
def test_changes_that_cannot_be_made_are_refused(names: tuple[str, ...], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        check_augmentation(names, (6, 6, 1))
