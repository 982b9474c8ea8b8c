"""The first LeNets' layers against loops over their definitions."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.config import RequestError
from cnnjax.layers.convolution import Conv
from cnnjax.layers.lenet import (
    LENET5_TABLE,
    EuclideanCodes,
    SparseConv,
    Table,
    TrainedSubsampling,
    UnitBias,
    class_codes,
    cyclic_table,
    scaled_tanh,
)
from tests.variables import drawn_variables

RNG = np.random.default_rng(0)


def kernel_of(params: dict[str, dict[str, np.ndarray]], table: Table, feature: int) -> np.ndarray:
    """[*window, channels seen] of one feature map."""
    seen = len(table[feature])
    place = sum(len(channels) == seen for channels in table[:feature])
    return params[f"from{seen}"]["kernel"][..., place]


@given(
    table=st.lists(st.sets(st.integers(0, 3), min_size=1).map(lambda s: tuple(sorted(s))), min_size=1, max_size=5),
    dimensions=st.integers(1, 2),
    strides=st.integers(1, 2),
)
def test_sparse_convolution_and_its_gradient(table: list[tuple[int, ...]], dimensions: int, strides: int) -> None:
    x = RNG.integers(-3, 4, (2, *(5, 4)[:dimensions], 4)).astype(np.float32)
    layer = SparseConv(tuple(table), 3, strides=strides, padding="valid")
    params = jax.tree.map(lambda p: np.round(9 * p), drawn_variables(layer, x.shape)["params"])
    outputs = jax.eval_shape(layer.apply, {"params": params}, x)
    cotangent = RNG.integers(-3, 4, outputs.shape).astype(np.float32)

    @jax.jit
    def run(params: Any) -> tuple[jax.Array, Any]:
        found, pull = jax.vjp(lambda p: layer.apply({"params": p}, x), params)
        return found, pull(cotangent)[0]

    found, gradient = jax.tree.map(np.asarray, run(params))
    expected_gradient = jax.tree.map(np.zeros_like, params)
    expected_gradient["bias"] = cotangent.reshape(-1, len(table)).sum(0)
    for feature, channels in enumerate(table):
        kernel, slope = kernel_of(params, layer.table, feature), kernel_of(expected_gradient, layer.table, feature)
        for position in itertools.product(*map(range, found.shape[1:-1])):
            window = tuple(slice(strides * p, strides * p + 3) for p in position)
            patch = x[(slice(None), *window)][..., list(channels)]
            own = (slice(None), *position, feature)
            sums = (patch * kernel).reshape(2, -1).sum(1) + params["bias"][feature]
            np.testing.assert_array_equal(found[own], sums)
            slope += np.tensordot(cotangent[own], patch, 1)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected_gradient)


def test_a_table_that_names_no_channel_of_the_input_is_refused() -> None:
    with pytest.raises(ValueError, match="the table names channel 4; the input has 3"):
        SparseConv(((0, 4),), 1).init(jax.random.key(0), np.zeros((1, 2, 3), np.float32))


def test_table_of_c3_is_the_published_one() -> None:
    printed = """
        X . . . X X X . . X X X X . X X
        X X . . . X X X . . X X X X . X
        X X X . . . X X X . . X . X X X
        . X X X . . X X X X . . X . X X
        . . X X X . . X X X X . X X . X
        . . . X X X . . X X X X . X X X
    """
    rows = [line.split() for line in printed.strip().splitlines()]
    table = tuple(tuple(row for row in range(6) if rows[row][column] == "X") for column in range(16))
    assert table == LENET5_TABLE
    assert sum(25 * len(channels) + 1 for channels in table) == 1_516


def test_cyclic_table_uses_all_channels_alike() -> None:
    table = cyclic_table(12, 12, 8)
    assert table[0] == tuple(range(8))
    assert table[10] == (0, 1, 2, 3, 4, 5, 10, 11)
    assert [sum(channel in seen for seen in table) for channel in range(12)] == [8] * 12


def test_each_unit_has_a_bias() -> None:
    x = RNG.normal(size=(2, 4, 3, 2)).astype(np.float32)
    conv = Conv(3, 3, use_bias=False)
    params = drawn_variables(UnitBias(conv), x.shape)["params"]
    assert params["bias"].shape == (4, 3, 3)
    found = UnitBias(conv).apply({"params": params}, x)
    np.testing.assert_allclose(found, conv.apply({"params": params["layer"]}, x) + params["bias"], rtol=1e-5, atol=1e-6)


def test_subsampling_scales_the_sum_of_each_window() -> None:
    x = np.arange(2 * 4 * 5, dtype=np.float32).reshape(1, 4, 5, 2)
    layer = TrainedSubsampling(2, jnp.tanh)
    params = {"scale": np.float32([0.01, -0.02]), "bias": np.float32([0.5, 0.25])}
    sums = x[:, :, :4].reshape(1, 2, 2, 2, 2, 2).sum((2, 4))
    expected = np.tanh(params["scale"] * sums + params["bias"])
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-5)
    start = layer.init(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(start["scale"], [0.25, 0.25])


def test_distances_to_the_codes() -> None:
    codes = class_codes(10, 84)
    x = (codes[3:5] + RNG.normal(size=(2, 84))).astype(np.float32)
    logits = EuclideanCodes(10).apply({}, x)
    expected = [[-((example - code) ** 2).sum() for code in codes] for example in x.astype(float)]
    np.testing.assert_allclose(logits, expected, rtol=1e-4)
    assert np.argmax(logits, axis=1).tolist() == [3, 4]


def test_codes_are_far_from_one_another() -> None:
    codes = class_codes(10, 84)
    assert set(np.unique(codes)) == {-1, 1}
    apart = {int((a != b).sum()) for a, b in itertools.combinations(codes, 2)}
    assert min(apart) >= 40
    assert max(apart) <= 44
    with pytest.raises(RequestError, match="length 84 serve at most 127 classes; given 128"):
        class_codes(128, 84)


def test_scaled_tanh_keeps_one() -> None:
    np.testing.assert_allclose(scaled_tanh(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)
    np.testing.assert_allclose(scaled_tanh(jnp.array(20.0)), 1.7159, rtol=1e-6)
