"""The lectures' worked examples of features, detectors and pooling.

Each test names the lecture's file in shared/seeds and its lines. Where a printed figure is wrong, the right one is
tested and the docstring says so.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.activations import ACTIVATIONS
from cnnjax.ops.convolution import correlate
from cnnjax.ops.pooling import adaptive_max_pool, average_pool, max_pool

LETTER_X = np.where(np.eye(9) + np.eye(9)[::-1] > 0, 1.0, -1.0)
LETTER_X[[0, -1]] = LETTER_X[:, [0, -1]] = -1

FEATURES = {
    "falling": [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]],
    "cross": [[1, -1, 1], [-1, 1, -1], [1, -1, 1]],
    "rising": [[-1, -1, 1], [-1, 1, -1], [1, -1, -1]],
}
KERNELS = np.stack(list(FEATURES.values()), axis=-1)[:, :, None].astype(np.float32)

FILTERED = {
    "falling": [
        [77, -11, 11, 33, 55, -11, 33],
        [-11, 100, -11, 33, -11, 11, -11],
        [11, -11, 100, -33, 11, -11, 55],
        [33, 33, -33, 55, -33, 33, 33],
        [55, -11, 11, -33, 100, -11, 11],
        [-11, 11, -11, 33, -11, 100, -11],
        [33, -11, 55, 33, 11, -11, 77],
    ],
    "cross": [
        [33, -55, 11, -11, 11, -55, 33],
        [-55, 55, -55, 33, -55, 55, -55],
        [11, -55, 55, -77, 55, -55, 11],
        [-11, 33, -77, 100, -77, 33, -11],
        [11, -55, 55, -77, 55, -55, 11],
        [-55, 55, -55, 33, -55, 55, -55],
        [33, -55, 11, -11, 11, -55, 33],
    ],
    "rising": [
        [33, -11, 55, 33, 11, -11, 77],
        [-11, 11, -11, 33, -11, 100, -11],
        [55, -11, 11, -33, 100, -11, 11],
        [33, 33, -33, 55, -33, 33, 33],
        [11, -11, 100, -33, 11, -11, 55],
        [-11, 100, -11, 33, -11, 11, -11],
        [77, -11, 11, 33, 55, -11, 33],
    ],
}
"""In hundredths, cut and not rounded: 7 / 9 is printed as 0.77."""

POOLED = {
    "falling": [[100, 33, 55, 33], [33, 100, 33, 55], [55, 33, 100, 11], [33, 55, 11, 77]],
    "cross": [[55, 33, 55, 33], [33, 100, 55, 11], [55, 55, 55, 11], [33, 11, 11, 33]],
    "rising": [[33, 55, 100, 77], [55, 55, 100, 33], [100, 100, 11, 55], [77, 33, 55, 33]],
}
POOLED_TWICE = {"falling": [[100, 55], [55, 100]], "cross": [[100, 55], [55, 55]], "rising": [[55, 100], [100, 55]]}


def hundredths(maps: jax.Array) -> dict[str, np.ndarray]:
    """Each feature's map of sums [1, H, W, 3], divided by the nine pixels of a feature and cut to hundredths."""
    return {name: np.trunc(100 * np.float64(maps[0, ..., i]) / 9) for i, name in enumerate(FEATURES)}


def assert_maps(maps: jax.Array, printed: dict[str, list[list[int]]]) -> None:
    for name, found in hundredths(maps).items():
        np.testing.assert_array_equal(found, printed[name], err_msg=name)


@pytest.fixture(scope="module")
def filtered() -> jax.Array:
    return correlate(jnp.asarray(LETTER_X, jnp.float32)[None, :, :, None], KERNELS)


def test_features_of_the_letter_x(filtered: jax.Array) -> None:
    """004_ff7ec25d1690b81c.txt, 192-203 (features), 255-263 (image of 9 x 9) and 314-405 (maps).

    Several prints of the image have a row or column too many or too few, or a wrong pixel (259-260), and 427 has 0.11
    for -0.11: the image here has the symmetry of the maps, and all three come out of it.
    """
    assert_maps(filtered, FILTERED)


def test_matches_of_two_patches(filtered: jax.Array) -> None:
    """004_ff7ec25d1690b81c.txt, 245-253 and 267-285.

    A patch equal to its feature gives 9 / 9 = 1 (printed with eight terms); one that differs in two pixels, 5 / 9.
    """
    assert filtered[0, 1, 1, 0] == 9
    patch = np.array(FEATURES["falling"], np.float32)
    patch[[0, 2], [2, 0]] *= -1
    assert correlate(patch[None, :, :, None], KERNELS)[0, 0, 0, 0] == 5


def test_max_pooling_of_the_maps(filtered: jax.Array) -> None:
    """004_ff7ec25d1690b81c.txt, 549-663: windows of two at stride two; the last ones hold what is left of 7.

    563 has 0.11 for -0.11.
    """
    pooled = max_pool(filtered, 2, padding="same")
    assert_maps(pooled, POOLED)
    assert_maps(max_pool(pooled, 2), POOLED_TWICE)


def test_deeper_stack() -> None:
    """004_ff7ec25d1690b81c.txt, 859-864: the 2 x 2 maps are the 4 x 4 ones (827-840) pooled once more."""
    maps = np.stack([np.array(POOLED[name], np.float32) for name in FEATURES], axis=-1)[None]
    found = max_pool(maps, 2)
    for i, name in enumerate(FEATURES):
        np.testing.assert_array_equal(found[0, ..., i], POOLED_TWICE[name])


def test_relu_of_the_maps(filtered: jax.Array) -> None:
    """004_ff7ec25d1690b81c.txt, 748-796, where the step is called normalisation: no number below 0 is left."""
    printed = {name: np.where(np.array(rows) > 0, rows, 0).tolist() for name, rows in FILTERED.items()}
    assert printed["cross"][1] == [0, 55, 0, 33, 0, 55, 0]  # 783
    assert_maps(ACTIVATIONS["relu"](filtered), printed)


def test_pooling_before_or_after_relu_is_the_same(filtered: jax.Array) -> None:
    """Both orders of 004_ff7ec25d1690b81c.txt, 538-796: all pooled values are positive."""
    relu = ACTIVATIONS["relu"]
    assert_maps(relu(max_pool(filtered, 2, padding="same")), POOLED)
    assert_maps(max_pool(relu(filtered), 2, padding="same"), POOLED)


def test_max_pooling_under_a_shift_by_one_pixel() -> None:
    """001_dbf4440b6b16890f.txt, 326, with the numbers of its figure (Goodfellow, Bengio and Courville 2016, 9.8).

    Windows of three, stride one: every detector value changes, and half of the pooled ones.
    """
    before, after = np.array([0.1, 1.0, 0.2, 0.1], np.float32), np.array([0.3, 0.1, 1.0, 0.2], np.float32)
    assert (before[:-1] == after[1:]).all()
    assert (before != after).all()
    pooled = max_pool(np.stack([before, after])[..., None], 3, strides=1, padding="same")[..., 0]
    np.testing.assert_array_equal(pooled, np.array([[1.0, 1.0, 1.0, 0.2], [0.3, 1.0, 1.0, 1.0]], np.float32))
    assert (pooled[0] != pooled[1]).sum() == 2


def test_max_pooling_with_down_sampling() -> None:
    """001_dbf4440b6b16890f.txt, 298: width three at stride two halves the size (Goodfellow 2016, figure 9.10)."""
    detected = np.array([0.1, 1.0, 0.2, 0.1, 0.0, 0.1], np.float32)[None, :, None]
    found = max_pool(detected, 3, strides=2, padding=[(0, 1)])
    np.testing.assert_array_equal(found.ravel(), np.array([1.0, 0.2, 0.1], np.float32))


@pytest.mark.parametrize("stride", [2, 3])
def test_stride_divides_the_size_of_feature_maps(stride: int) -> None:
    """000_62aab441bdec7d37.txt, 589-590: by 4 or 9 in two dimensions."""
    x = jax.ShapeDtypeStruct((1, 12, 12, 5), jnp.float32)
    for pool in (max_pool, average_pool):
        assert x.size == stride**2 * jax.eval_shape(lambda x, pool=pool: pool(x, stride), x).size


def test_one_maximum_a_quadrant_whatever_the_size() -> None:
    """001_dbf4440b6b16890f.txt, 336-340; 000_62aab441bdec7d37.txt, 599."""
    for height, width in ((4, 6), (8, 2)):
        image = np.random.default_rng(height).normal(size=(1, height, width, 1)).astype(np.float32)
        top, bottom = np.split(image[0, ..., 0], 2)
        quadrants = [half.max() for rows in (top, bottom) for half in np.split(rows, 2, axis=1)]
        np.testing.assert_array_equal(adaptive_max_pool(image, 2).ravel(), quadrants)


def test_detectors_as_printed() -> None:
    """002_99c791af916edae9.txt, 1083: ReLU max(0, z); leaky ReLU max(e z, z); and 003_2444bc7fa30d6853.txt, 47.

    ELU is printed as max(a (e^z - 1), z). For a = 1 that is e^z - 1 above 0 too, since e^z - 1 > z: the right form is z
    above 0 and a (e^z - 1) below (Clevert 2016).
    """
    z = np.linspace(-4, 4, 33)
    found = {name: np.asarray(ACTIVATIONS[name](jnp.asarray(z, jnp.float32))) for name in ACTIVATIONS}
    np.testing.assert_allclose(found["relu"], np.maximum(0, z), atol=1e-6)
    np.testing.assert_allclose(found["leaky_relu"], np.maximum(0.01 * z, z), atol=1e-6)
    np.testing.assert_allclose(found["sigmoid"], 1 / (1 + np.exp(-z)), atol=1e-6)
    np.testing.assert_allclose(found["elu"], np.where(z > 0, z, np.exp(z) - 1), atol=1e-6)
    assert (np.exp(z[z > 0]) - 1 > found["elu"][z > 0]).all()


def test_slope_of_relu() -> None:
    """003_2444bc7fa30d6853.txt, 451: 1 where the unit is above 0 and 0 elsewhere, at 0 too."""
    slope = jax.vmap(jax.grad(ACTIVATIONS["relu"]))(jnp.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(slope, [0, 0, 1])
