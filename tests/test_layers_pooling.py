"""The pooling layers by name: on examples that are worked by hand, at their borders, and over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.config import RequestError
from cnnjax.layers.activations import ACTIVATIONS
from cnnjax.layers.pooling import POOLS, choose_window_pool, commutes

GRID = np.array([[1, 2, 3, 4, 5], [9, 8, 7, 6, 5], [1, 2, 3, 4, 9], [9, 8, 7, 6, 5]], np.float32)
ROOT = {order: [[(1 + 2**order + 9**order + 8**order) / 4, (3**order + 4**order + 7**order + 6**order) / 4]] * 2
        for order in (2, 3)}  # fmt: skip
SUMMARIES = {
    "max": [[9, 7], [9, 7]],
    "average": [[5, 5], [5, 5]],
    "l2": np.sqrt(ROOT[2]),
    "l2_norm": 2 * np.sqrt(ROOT[2]),  # of a rectangular neighbourhood, as lecture 001 has it
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


@pytest.mark.parametrize("border", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("name", sorted(set(POOLS) - {"none"}))
def test_an_exact_pool_names_what_is_left_over(name: str, border: str) -> None:
    layer = POOLS[name](3, 2, 1, border=border, exact=True)
    assert jax.eval_shape(lambda x: layer.apply({}, x), jax.ShapeDtypeStruct((1, 7, 1), jnp.float32)).shape == (1, 4, 1)
    with pytest.raises(ValueError, match=r"= 3.5 positions are no whole number; 1 elements less"):
        jax.eval_shape(lambda x: layer.apply({}, x), jax.ShapeDtypeStruct((1, 6, 1), jnp.float32))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("maxx", "unknown pool 'maxx'; did you mean 'max'?"),
        ("dynamic", "pool 'dynamic' is of regions, which only a convnet takes, in its last stage; there are: max, av"),
    ],
)
def test_a_pool_that_is_not_of_windows_is_refused(name: str, says: str) -> None:
    assert choose_window_pool("max") is POOLS["max"]
    with pytest.raises(RequestError) as caught:
        choose_window_pool(name)
    assert str(caught.value).startswith(says)
