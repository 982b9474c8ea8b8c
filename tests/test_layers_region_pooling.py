"""Pooling of regions by name: features of a fixed size, on examples that are worked by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.layers.region_pooling import REGION_POOLS, region_pool
from cnnjax.ops.pooling import grid_regions, weighted_region_pool

GRID = np.array([[1, 2, 3, 4], [9, 8, 7, 6], [1, 2, 3, 4], [9, 8, 7, 6]], np.float32)


@functools.partial(jax.jit, static_argnums=0)
def on(layer: nn.Module, x: jax.Array) -> jax.Array:
    return layer.apply({}, x)


REGIONS = {
    "global_average": ({}, (2, 3)),
    "global_max": ({}, (2, 3)),
    "adaptive_average": ({"size": 3}, (2, 3, 3, 3)),
    "adaptive_max": ({"size": (2, 1)}, (2, 2, 1, 3)),
    "pyramid": ({"levels": (1, 2, 3), "kind": "max"}, (2, 14 * 3)),
    "dynamic": ({"regions": 4}, (2, 4 * 3)),
    "learned": ({"grid": 3}, (2, 9 * 3)),
}


@pytest.mark.parametrize("name", REGION_POOLS)
@pytest.mark.parametrize("spatial", [(4, 5), (7, 3)])
def test_regions_by_name_have_a_fixed_size(name: str, spatial: tuple[int, int]) -> None:
    fields, shape = REGIONS[name]
    x = jax.ShapeDtypeStruct((2, *spatial, 3), jnp.float32)
    found, _ = jax.eval_shape(lambda x: REGION_POOLS[name](**fields).init_with_output(jax.random.key(0), x), x)
    assert found.shape == shape


def test_summaries_of_regions_by_hand() -> None:
    x = GRID[None, :, :, None]
    np.testing.assert_array_equal(on(REGION_POOLS["global_average"](), x), [[5]])
    np.testing.assert_array_equal(on(REGION_POOLS["global_max"](), x), [[9]])
    np.testing.assert_array_equal(on(REGION_POOLS["adaptive_max"](2), x)[0, :, :, 0], [[9, 7], [9, 7]])
    np.testing.assert_array_equal(on(REGION_POOLS["adaptive_average"](2), x)[0, :, :, 0], [[5, 5], [5, 5]])
    np.testing.assert_array_equal(on(REGION_POOLS["pyramid"](kind="max"), x), [[9, 9, 7, 9, 7]])


def test_centres_are_drawn_from_the_key() -> None:
    layer = REGION_POOLS["dynamic"](regions=2)
    x = np.array([0, 4, 4, 1], np.float32).reshape(1, 4, 1)
    one, same, other = (layer.init(jax.random.key(seed), x) for seed in (0, 0, 1))
    assert set(one) == {"batch_stats"}
    np.testing.assert_array_equal(one["batch_stats"]["centres"], same["batch_stats"]["centres"])
    assert (one["batch_stats"]["centres"] != other["batch_stats"]["centres"]).all()
    chosen = {"batch_stats": {"centres": jnp.array([[0.0], [5.0]])}}
    np.testing.assert_array_equal(layer.apply(chosen, x).ravel(), [0.5, 4])


def test_learned_regions_start_near_the_quadrants_and_can_all_grow() -> None:
    x = np.random.default_rng(0).uniform(0, 1, (2, 4, 6, 3)).astype(np.float32)
    layer = REGION_POOLS["learned"]()
    variables = layer.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"regions": (4, 4, 6)}}
    found, quadrants = layer.apply(variables, x), weighted_region_pool(x, jnp.asarray(grid_regions((4, 6))))
    np.testing.assert_allclose(found, quadrants.reshape(2, -1), atol=0.03)
    gradient = jax.grad(lambda variables: layer.apply(variables, x).sum())(variables)["params"]["regions"]
    assert (gradient > 0).all()
    lowest = {"params": {"regions": jnp.full((4, 4, 6), -50.0)}}
    assert (layer.apply(lowest, x) >= 0).all()


def test_dynamic_centres_move_to_the_means_in_training_alone() -> None:
    layer = REGION_POOLS["dynamic"](regions=3)
    x = jnp.asarray([0.0, 2.0, 9.0, 11.0]).reshape(1, 4, 1)
    variables = {"batch_stats": {"centres": jnp.array([[0.0], [8.0], [-50.0]])}}
    _, kept = layer.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_array_equal(kept["batch_stats"]["centres"], variables["batch_stats"]["centres"])
    _, moved = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(moved["batch_stats"]["centres"].ravel(), [0.1, 8.2, -50.0], rtol=1e-6)


SIZED: dict[str, dict[int, tuple[int, ...]]] = {
    "global_average": {1: (3,), 2: (3,)},
    "global_max": {1: (3,), 2: (3,)},
    "adaptive_average": {1: (2, 3), 2: (2, 2, 3)},
    "adaptive_max": {1: (2, 3), 2: (2, 2, 3)},
    "pyramid": {1: (3 * 3,), 2: (5 * 3,)},
    "dynamic": {1: (4 * 3,), 2: (4 * 3,)},
    "learned": {1: (2 * 3,), 2: (4 * 3,)},
}
"""What a pool of size 2 leaves of an example with three channels, in one and two dimensions."""


@pytest.mark.parametrize("name", REGION_POOLS)
def test_one_number_gives_every_pool_its_regions(name: str) -> None:
    for dimensions, shape in SIZED[name].items():
        x = jax.ShapeDtypeStruct((5, *[7] * dimensions, 3), jnp.float32)
        found: Any = jax.eval_shape(region_pool(name, 2, "devices").init_with_output, jax.random.key(0), x)[0]
        assert found.shape == (5, *shape)


def test_dynamic_centres_are_shared_over_the_devices() -> None:
    layer = region_pool("dynamic", 1, "devices")
    x = jnp.asarray([[0.0, 2.0], [9.0, 13.0]]).reshape(2, 1, 2, 1)
    variables = {"batch_stats": {"centres": jnp.zeros((1, 1))}}
    train = functools.partial(layer.apply, variables, train=True, mutable=["batch_stats"])
    _, moved = jax.vmap(train, axis_name="devices")(x)
    np.testing.assert_allclose(moved["batch_stats"]["centres"].ravel(), [0.6, 0.6], rtol=1e-6)
