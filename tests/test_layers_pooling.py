"""The pooling layers by name: on examples that are worked by hand, at their borders, and over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.layers.activations import ACTIVATIONS
from cnnjax.layers.pooling import POOLS, REGION_POOLS, commutes
from cnnjax.ops.pooling import grid_regions, weighted_region_pool

GRID = np.array([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5], [1, 2, 3, 4, 9], [9, 8, 7, 6, 5]], np.float32)
ROOT = {order: [[(1 + 2**order + 9**order + 8**order) / 4, (3**order + 4**order + 7**order + 6**order) / 4]] * 2
        for order in (2, 3)}  # fmt: skip
SUMMARIES = {
    "max": [[9, 7], [9, 7]],
    "average": [[5, 5], [5, 5]],
    "l2": np.sqrt(ROOT[2]),
    "lp": np.cbrt(ROOT[3]),
    "gaussian": [[5, 5], [5, 5]],
    "distance": [[5, 5], [5, 5]],
    "stochastic": [[150 / 20, 110 / 20], [150 / 20, 110 / 20]],
    "blur": [[5, 5], [5, 5]],
    "max_blur": [[8.5, 7.375], [8.5, 7.75]],
    "stride": [[1, 3], [1, 3]],
    "none": GRID,
}
RING = np.array([5, 0, 1, 2, 3, 9], np.float32).reshape(1, 6, 1)


@functools.partial(jax.jit, static_argnums=0)
def on(layer: nn.Module, x: jax.Array) -> jax.Array:
    return layer.apply({}, x)


@pytest.mark.parametrize("name", POOLS)
def test_pool_by_name(name: str) -> None:
    found = on(POOLS[name](2), GRID[None, :, :, None])
    np.testing.assert_allclose(found[0, :, :, 0], SUMMARIES[name], rtol=1e-6)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_spatial_dimension_shrinks_alike_and_no_other(name: str, dimensions: int) -> None:
    layer = POOLS[name](3, 2, 1, axis_name=None)
    found = jax.eval_shape(lambda x: layer.apply({}, x), jax.ShapeDtypeStruct((5, *[6] * dimensions, 7), jnp.float32))
    assert found.shape == (5, *[6 if name == "none" else 3] * dimensions, 7)


@pytest.mark.parametrize(("border", "left", "right"), [("zeros", None, None), ("circular", 9, 5), ("reflect", 0, 3)])
def test_what_lies_past_the_border(border: str, left: float | None, right: float | None) -> None:
    def ends(name: str) -> np.ndarray:
        return np.asarray(on(POOLS[name](3, 1, 1, border=border), RING)).ravel()[[0, -1]]

    first = [value for value in (left, 5, 0) if value is not None]
    last = [value for value in (3, 9, right) if value is not None]
    np.testing.assert_allclose(ends("max"), [max(first), max(last)])
    np.testing.assert_allclose(ends("average"), [np.mean(first), np.mean(last)], rtol=1e-6)
    np.testing.assert_allclose(ends("lp"), [np.mean(np.power(side, 3)) ** (1 / 3) for side in (first, last)], rtol=1e-6)
    expectation = [np.sum(np.square(side)) / np.sum(side) for side in (first, last)]
    np.testing.assert_allclose(ends("stochastic"), expectation, rtol=1e-6)
    around = [(left, right) if border == "circular" else (0, 3)][0]
    np.testing.assert_allclose(ends("blur"), [(around[0] + 2 * 5 + 0) / 4, (3 + 2 * 9 + around[1]) / 4])


@pytest.mark.parametrize("name", sorted(set(POOLS) - {"none"}))
def test_on_a_ring_pooling_commutes_with_shifts_by_its_stride(name: str) -> None:
    layer = POOLS[name](3, 2, 1, border="circular")
    x = np.random.default_rng(0).uniform(0, 1, (1, 8, 2)).astype(np.float32)
    one, other = (np.asarray(on(layer, np.roll(x, shift, 1))) for shift in (0, 2))
    np.testing.assert_allclose(np.roll(one, 1, 1), other, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(POOLS) - {"stochastic"}))
def test_only_stochastic_pooling_draws(name: str) -> None:
    layer = POOLS[name](2)
    np.testing.assert_array_equal(layer.apply({}, RING, train=True), layer.apply({}, RING))


def test_orders_and_blurs_of_ones_own() -> None:
    np.testing.assert_allclose(on(POOLS["lp"](2, order=1), RING).ravel(), [2.5, 1.5, 6])
    np.testing.assert_allclose(on(POOLS["max_blur"](2, blur=1), RING).ravel(), on(POOLS["max"](2), RING).ravel())


def test_stochastic_draws_do_not_depend_on_how_the_batch_is_spread() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (8, 6, 6, 2)).astype(np.float32)
    rngs = {"dropout": jax.random.key(3)}

    @functools.partial(jax.jit, static_argnums=0)
    def draw(layer: nn.Module, x: jax.Array) -> jax.Array:
        return layer.apply({}, x, train=True, rngs=rngs)

    whole = draw(POOLS["stochastic"](2), x)
    spread = POOLS["stochastic"](2, axis_name="devices")
    shards = jax.vmap(lambda part: draw(spread, part), axis_name="devices")(x.reshape(4, 2, 6, 6, 2))
    np.testing.assert_array_equal(shards.reshape(whole.shape), whole)
    same = draw(POOLS["stochastic"](2), np.broadcast_to(x[:1], x.shape))
    assert len({np.asarray(example).tobytes() for example in same}) == 8


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_those_that_commute_give_the_same_either_way(pool: str, act: str) -> None:
    if not commutes(pool, act):
        assert pool != "max" or act in ("gelu", "abs")
        return
    x = np.random.default_rng(0).normal(size=(1, 6, 2)).astype(np.float32)
    layer, detect = POOLS[pool](2), ACTIVATIONS[act]
    np.testing.assert_array_equal(detect(on(layer, x)), on(layer, detect(x)))


REGIONS = {
    "global_average": ({}, (2, 3)),
    "global_max": ({}, (2, 3)),
    "adaptive_average": ({"size": 3}, (2, 3, 3, 3)),
    "adaptive_max": ({"size": (2, 1)}, (2, 2, 1, 3)),
    "pyramid": ({"levels": (1, 2, 3), "kind": "max"}, (2, 14 * 3)),
    "dynamic": ({"regions": 4}, (2, 4, 3)),
    "learned": ({"grid": 3}, (2, 9, 3)),
}


@pytest.mark.parametrize("name", REGION_POOLS)
@pytest.mark.parametrize("spatial", [(4, 5), (7, 3)])
def test_regions_by_name_have_a_fixed_size(name: str, spatial: tuple[int, int]) -> None:
    fields, shape = REGIONS[name]
    x = jax.ShapeDtypeStruct((2, *spatial, 3), jnp.float32)
    found, _ = jax.eval_shape(lambda x: REGION_POOLS[name](**fields).init_with_output(jax.random.key(0), x), x)
    assert found.shape == shape


def test_summaries_of_regions_by_hand() -> None:
    x = GRID[None, :, :4, None]
    np.testing.assert_array_equal(on(REGION_POOLS["global_average"](), x), [[5]])
    np.testing.assert_array_equal(on(REGION_POOLS["global_max"](), x), [[9]])
    np.testing.assert_array_equal(on(REGION_POOLS["adaptive_max"](2), x)[0, :, :, 0], SUMMARIES["max"])
    np.testing.assert_array_equal(on(REGION_POOLS["adaptive_average"](2), x)[0, :, :, 0], SUMMARIES["average"])
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
    np.testing.assert_allclose(found, quadrants, atol=0.03)
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
