"""Dynamic and learned regions against loops over positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from cnnjax.ops.pooling import (
    adaptive_average_pool,
    cluster_centres,
    dynamic_region_pool,
    grid_regions,
    nearest_centre,
    weighted_region_pool,
)

SPATIAL = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(SPATIAL, st.integers(1, 5), st.integers(0, 99))
def test_each_region_holds_what_is_nearest_to_its_centre(spatial: list[int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 0, (2, *spatial, 2)).astype(np.float32)
    centres = rng.normal(-1.5, 1, (count, 2)).astype(np.float32)
    cotangent = rng.normal(size=(2, count, 2)).astype(np.float32)

    @jax.jit
    def run(x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        pulled = [jax.vjp(lambda x, kind=kind: dynamic_region_pool(x, centres, kind), x) for kind in ("average", "max")]
        return [(value, back(cotangent)[0]) for value, back in pulled]

    (mean, of_mean), (greatest, of_greatest) = run(x)
    flat = x.reshape(2, -1, 2)
    expected_mean, expected_greatest = np.zeros(flat.shape), np.zeros(flat.shape)
    nearest = np.argmin(np.square(flat[:, :, None] - centres).sum(-1), -1)
    np.testing.assert_array_equal(nearest_centre(x, centres).reshape(2, -1), nearest)
    for n in range(2):
        for k in range(count):
            inside = np.flatnonzero(nearest[n] == k)
            if not inside.size:
                assert not mean[n, k].any()
                assert not greatest[n, k].any()
                continue
            seen = flat[n, inside]
            np.testing.assert_allclose(mean[n, k], seen.mean(0), rtol=1e-5)
            np.testing.assert_array_equal(greatest[n, k], seen.max(0))
            ties = seen == seen.max(0)
            expected_mean[n, inside] += cotangent[n, k] / len(seen)
            expected_greatest[n, inside] += cotangent[n, k] * ties / ties.sum(0)
    np.testing.assert_allclose(of_mean.reshape(flat.shape), expected_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_greatest.reshape(flat.shape), expected_greatest, rtol=1e-4, atol=1e-5)


def test_each_image_has_regions_of_its_own_and_a_shuffle_of_positions_changes_nothing() -> None:
    left, right = [0, 0, 0, 5], [5, 5, 0, 0]
    x = np.array([left, right], np.float32)[..., None]
    centres = jnp.array([[0.0], [4.0]])
    np.testing.assert_array_equal(nearest_centre(x, centres), [[0, 0, 0, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(dynamic_region_pool(x, centres).squeeze(-1), [[0, 5], [0, 5]])
    np.testing.assert_array_equal(dynamic_region_pool(x[:, ::-1], centres).squeeze(-1), [[0, 5], [0, 5]])


@given(SPATIAL, st.integers(1, 3))
def test_weighted_regions_sum_over_positions(spatial: list[int], count: int) -> None:
    rng = np.random.default_rng(count)
    x = rng.integers(-4, 5, (2, *spatial, 3)).astype(np.float32)
    weights = rng.integers(0, 4, (count, *spatial)).astype(np.float32)
    cotangent = rng.integers(-3, 4, (2, count, 3)).astype(np.float32)

    @jax.jit
    def run(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        value, back = jax.vjp(weighted_region_pool, x, weights)
        return value, back(cotangent)

    value, (of_x, of_weights) = run(x, weights)
    expected, expected_x, expected_weights = np.zeros(value.shape), np.zeros(x.shape), np.zeros(weights.shape)
    for position in np.ndindex(*spatial):
        here = (slice(None), *position)
        for r in range(count):
            expected[:, r] += weights[r][position] * x[here]
            expected_x[here] += weights[r][position] * cotangent[:, r]
            expected_weights[r][position] = np.sum(cotangent[:, r] * x[here])
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(of_x, expected_x)
    np.testing.assert_array_equal(of_weights, expected_weights)


@pytest.mark.parametrize(("spatial", "regions"), [((4,), 2), ((5,), 3), ((4, 6), 2), ((3, 5), 2), ((2, 3, 4), 2)])
def test_grid_regions_are_adaptive_average_pooling(spatial: tuple[int, ...], regions: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, *spatial, 3)).astype(np.float32)
    found = weighted_region_pool(x, jnp.asarray(grid_regions(spatial, regions)))
    expected = adaptive_average_pool(x, regions)
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-5, atol=1e-6)


def test_quadrants_by_hand() -> None:
    quadrants = np.kron(np.eye(4).reshape(4, 2, 2), np.full((1, 2, 1), 0.5))
    np.testing.assert_array_equal(grid_regions((4, 2)), quadrants)


def test_gradients_are_lowered_without_a_scatter() -> None:
    centres = jnp.array([[0.0], [4.0]])
    gradient = jax.grad(lambda x: dynamic_region_pool(x, centres, "max").sum() + dynamic_region_pool(x, centres).sum())
    assert "scatter" not in jax.jit(gradient).lower(jnp.ones((1, 5, 1))).as_text()


def test_wrong_shapes_and_kinds_are_refused() -> None:
    x = jnp.ones((1, 4, 4, 3))
    with pytest.raises(ValueError, match="centres must be"):
        dynamic_region_pool(x, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="average or max"):
        dynamic_region_pool(x, jnp.ones((2, 3)), "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weights must be"):
        weighted_region_pool(x, jnp.ones((2, 4, 3)))
    with pytest.raises(ValueError, match="regions must be"):
        grid_regions((4, 4), 0)


def test_centres_are_those_of_k_means() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 5, 5, 3)).astype(np.float32) + 3 * rng.integers(0, 3, (4, 5, 5, 1)).astype(np.float32)
    start = x.reshape(-1, 3)[:4]
    reference = KMeans(4, init=start, n_init=1, max_iter=100, tol=0).fit(x.reshape(-1, 3))
    np.testing.assert_allclose(cluster_centres(x, start, 100), reference.cluster_centers_, rtol=1e-4, atol=1e-4)
    far = np.full((1, 3), 1e3, np.float32)
    found = cluster_centres(x, np.concatenate([start, far]), 3)
    np.testing.assert_array_equal(found[-1], far[0])
