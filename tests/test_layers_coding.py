"""The layers of Coates's network against loops in NumPy, and what they start from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.coding import CODES, CentroidCode, PatchWhitening
from cnnjax.ops.coding import CONTRAST_EPSILON
from tests.variables import drawn_variables


def normalised_patch(patch: np.ndarray) -> np.ndarray:
    return (patch - patch.mean()) / np.sqrt(patch.var() + CONTRAST_EPSILON)


def test_whitening_starts_as_the_normalised_patches() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    found, variables = jax.jit(PatchWhitening((2, 3)).init_with_output)(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (2, 3, 2, 12), "bias": (12,)}}
    assert found.shape == (2, 2, 2, 12)
    for n, i, j in np.ndindex(2, 2, 2):
        patch = x[n, i : i + 2, j : j + 3].ravel()
        np.testing.assert_allclose(found[n, i, j], normalised_patch(patch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial", [(5,), (2, 3, 2)])
def test_whitening_is_a_linear_map_of_normalised_patches(spatial: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(2, *spatial, 1)).astype(np.float32)
    layer = PatchWhitening(2, epsilon=1.0)
    variables = drawn_variables(layer, x.shape)
    found = jax.jit(layer.apply)(variables, x)
    kernel, bias = (variables["params"][name] for name in ("kernel", "bias"))
    corner = x[1][tuple(slice(size - 2, size) for size in spatial)].ravel()
    corner = (corner - corner.mean()) / np.sqrt(corner.var() + 1)
    expected = corner @ kernel.reshape(len(corner), -1) + bias
    np.testing.assert_allclose(found[(1, *[-1] * len(spatial))], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CODES)
def test_code_of_one_position(name: str) -> None:
    layer = CentroidCode(2, CODES[name])
    x = np.array([3, 4], np.float32).reshape(1, 1, 1, 2)
    variables = {"params": {"centroids": np.array([[0, 3], [0, 8]], np.float32)}}
    by_hand = {"triangle": [0, 0.5], "hard": [0, 1], "soft_threshold": [0, (3 * 3 + 4 * 8) / np.sqrt(73) - 0.25]}
    np.testing.assert_allclose(layer.apply(variables, x).ravel(), by_hand[name], rtol=1e-5)


def test_centroids_are_drawn_from_the_key() -> None:
    layer = CentroidCode(40)
    one, same, other = (layer.init(jax.random.key(seed), jnp.ones((1, 30)))["params"] for seed in (0, 0, 1))
    assert set(one) == {"centroids"}
    assert one["centroids"].shape == (30, 40)
    np.testing.assert_array_equal(one["centroids"], same["centroids"])
    assert (one["centroids"] != other["centroids"]).all()
    assert 0.9 < one["centroids"].std() < 1.1
