"""The convolution layer in one to three dimensions."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.layers.convolution import Conv, ConvTranspose, DepthwiseSeparableConv


def whole_numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("spatial", [(9,), (7, 6), (5, 4, 6)])
def test_layer_is_correlation_summed_over_channels_plus_bias(spatial: tuple[int, ...]) -> None:
    x = whole_numbers(2, *spatial, 3)
    layer = Conv(features=2, kernel_size=3)
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(layer.init, jax.random.key(0), x)["params"])
    assert shapes == {"kernel": (*[3] * len(spatial), 3, 2), "bias": (2,)}
    kernel, bias = whole_numbers(*shapes["kernel"]), np.array([0.5, -2.0], np.float32)
    found = jax.jit(layer.apply)({"params": {"kernel": kernel, "bias": bias}}, x)
    expected = np.stack(
        [
            sum(scipy.signal.correlate(x[n, ..., c], kernel[..., c, f], mode="same") for c in range(3)) + bias[f]
            for n in range(2)
            for f in range(2)
        ]
    ).reshape(2, 2, *spatial)
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), atol=1e-4)


@pytest.mark.parametrize(
    ("strides", "padding", "positions"), [(1, "same", 8), (2, "same", 4), (1, "valid", 4), (3, 2, 3)]
)
def test_strides_and_padding(strides: int, padding: str | int, positions: int) -> None:
    layer = Conv(features=7, kernel_size=5, strides=strides, padding=padding)
    found, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.ones((2, 8, 8, 3)))
    assert found.shape == (2, positions, positions, 7)


def test_bias_starts_at_zero_and_can_be_left_out() -> None:
    x = jnp.ones((1, 8, 3))
    ones = nn.initializers.ones_init()
    with_bias = Conv(4, 3, kernel_init=ones).init(jax.random.key(0), x)["params"]
    without = jax.eval_shape(Conv(4, 3, use_bias=False).init, jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(with_bias["bias"], np.zeros(4))
    assert set(without) == {"kernel"}


def test_kernel_is_drawn_from_its_initialiser() -> None:
    layer = Conv(4, 3, kernel_init=lambda key, shape: jnp.full(shape, 2.0))
    found = layer.init(jax.random.key(0), jnp.ones((1, 8, 3)))["params"]["kernel"]
    np.testing.assert_array_equal(found, np.full((3, 3, 4), 2.0))


def test_the_options_of_correlation_reach_it() -> None:
    x = whole_numbers(2, 9, 4)
    layer = Conv(6, 3, padding=2, dilation=2, groups=2, border="circular", use_bias=False)
    kernel = whole_numbers(3, 2, 6)
    ring = np.pad(x, ((0, 0), (2, 2), (0, 0)), mode="wrap")
    expected = np.zeros((2, 9, 6), np.float32)
    for part in range(2):
        channels, features = slice(2 * part, 2 * part + 2), slice(3 * part, 3 * part + 3)
        for offset in range(3):
            met = ring[:, 2 * offset : 2 * offset + 9, channels]
            expected[..., features] += met @ kernel[offset, :, features]
    np.testing.assert_allclose(layer.apply({"params": {"kernel": kernel}}, x), expected, atol=1e-4)


def test_depthwise_separable_is_a_filter_for_each_channel_and_a_mixture() -> None:
    x, layer = whole_numbers(2, 7, 6, 3), DepthwiseSeparableConv(4, 3)
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(layer.init, jax.random.key(0), x)["params"])
    assert shapes == {"depthwise": {"kernel": (3, 3, 1, 3)}, "pointwise": {"kernel": (1, 1, 3, 4), "bias": (4,)}}
    own, mix, bias = whole_numbers(3, 3, 1, 3), whole_numbers(1, 1, 3, 4), whole_numbers(4)
    filtered = [
        [scipy.signal.correlate(x[n, ..., c], own[:, :, 0, c], mode="same") for c in range(3)] for n in range(2)
    ]
    expected = np.moveaxis(np.asarray(filtered), 1, -1) @ mix[0, 0] + bias
    params = {"depthwise": {"kernel": own}, "pointwise": {"kernel": mix, "bias": bias}}
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-3)


def test_transposed_layer_spreads_each_input_by_the_kernel() -> None:
    x, layer = whole_numbers(2, 4, 3), ConvTranspose(2, 3, strides=2, padding="valid")
    kernel, bias = whole_numbers(3, 3, 2), np.array([1.0, -1.0], np.float32)
    expected = np.zeros((2, 9, 2), np.float32) + bias
    for position in range(4):
        for offset in range(3):
            expected[:, 2 * position + offset] += x[:, position] @ kernel[offset]
    np.testing.assert_allclose(layer.apply({"params": {"kernel": kernel, "bias": bias}}, x), expected, atol=1e-4)
    found, params = jax.eval_shape(ConvTranspose(2, 4, strides=2).init_with_output, jax.random.key(0), x)
    assert found.shape == (2, 8, 2)
    assert params["params"]["kernel"].shape == (4, 3, 2)


def test_transposed_layer_with_groups_dilation_and_a_drawn_bias() -> None:
    """Two groups of two channels each, to one and a half times as many features; elements of the window 2 apart."""
    x = whole_numbers(2, 4, 4)
    layer = ConvTranspose(
        6, 3, 2, "valid", dilation=2, groups=2, bias_init=lambda key, shape, fan_in: fan_in + jnp.zeros(shape)
    )
    kernel = whole_numbers(3, 2, 6)
    expected = np.full((2, 11, 6), 3 * 2, np.float32)  # the bias: the elements that a feature sums
    for position, offset, group in itertools.product(range(4), range(3), range(2)):
        own, features = slice(2 * group, 2 * group + 2), slice(3 * group, 3 * group + 3)
        expected[:, 2 * position + 2 * offset, features] += x[:, position, own] @ kernel[offset, :, features]
    variables = layer.init(jax.random.key(0), x)["params"]
    assert variables["kernel"].shape == kernel.shape
    found = layer.apply({"params": variables | {"kernel": kernel}}, x)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match="2 groups must divide 4 channels and 5 features"):
        ConvTranspose(5, 3, groups=2).init(jax.random.key(0), x)


def test_dilation_and_border_of_a_separable_layer_are_of_its_depthwise_part() -> None:
    x, own = whole_numbers(2, 7, 3), whole_numbers(3, 1, 3)
    ring = np.pad(x, ((0, 0), (2, 2), (0, 0)), mode="wrap")
    expected = sum(ring[:, 2 * m : 2 * m + 7] * own[m] for m in range(3))
    layer = DepthwiseSeparableConv(3, 3, dilation=2, border="circular", use_bias=False)
    params = {"depthwise": {"kernel": own}, "pointwise": {"kernel": np.eye(3, dtype=np.float32)[None]}}
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-4)


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from(["valid", "same", 1]), st.integers(1, 3)
)
def test_depthwise_separable_and_its_gradients_are_those_of_loops(
    dimensions: int, window: int, stride: int, padding: str | int, channels: int
) -> None:
    spatial = (5, 4, 3)[:dimensions]
    x, own = whole_numbers(2, *spatial, channels), whole_numbers(*[window] * dimensions, 1, channels)
    mix, bias = whole_numbers(*[1] * dimensions, channels, 2), whole_numbers(2)
    pads = [same_padding(size, window, stride) if padding == "same" else 2 * [int(padding == 1)] for size in spatial]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    filtered = np.zeros((2, *[(size - window) // stride + 1 for size in padded.shape[1:-1]], channels), np.float32)
    sites = [
        ((slice(None), *i), m, (slice(None), *(stride * p + q for p, q in zip(i, m, strict=True))))
        for i, m in itertools.product(np.ndindex(filtered.shape[1:-1]), np.ndindex(own.shape[:-2]))
    ]
    for position, offset, site in sites:
        filtered[position] += padded[site] * own[offset][0]
    matrix = mix.reshape(channels, 2)
    weights = whole_numbers(*filtered.shape[:-1], 2)
    of_filtered, of_padded, of_own = weights @ matrix.T, np.zeros_like(padded), np.zeros_like(own)
    for position, offset, site in sites:
        of_padded[site] += of_filtered[position] * own[offset][0]
        of_own[offset][0] += (of_filtered[position] * padded[site]).sum(0)
    of_x = of_padded[(slice(None), *(slice(pad[0], pad[0] + size) for pad, size in zip(pads, spatial, strict=True)))]
    layer = DepthwiseSeparableConv(2, window, stride, padding)
    params = {"depthwise": {"kernel": own}, "pointwise": {"kernel": mix, "bias": bias}}

    @jax.jit
    def run(params: Any, x: jax.Array) -> Any:
        value, back = jax.vjp(lambda params, x: layer.apply({"params": params}, x), params, x)
        return value, back(weights)

    value, (of_params, found_x) = run(params, x)
    np.testing.assert_allclose(value, filtered @ matrix + bias, atol=1e-3)
    np.testing.assert_allclose(found_x, of_x, atol=1e-3)
    np.testing.assert_allclose(of_params["depthwise"]["kernel"], of_own, atol=1e-3)
    of_mix = filtered.reshape(-1, channels).T @ weights.reshape(-1, 2)
    np.testing.assert_allclose(of_params["pointwise"]["kernel"].reshape(channels, 2), of_mix, atol=1e-3)
    np.testing.assert_allclose(of_params["pointwise"]["bias"], weights.reshape(-1, 2).sum(0), atol=1e-3)


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """So much that there are ceil(size / stride) positions, the odd element after."""
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, math.ceil(total / 2)


def test_strides_and_dilations_of_each_direction() -> None:
    """As lecture 000 has them: so many elements along one direction, so many along another."""
    x = whole_numbers(1, 6, 9, 1)
    layer = Conv(features=1, kernel_size=(2, 3), strides=(2, 1), padding="valid", dilation=(1, 3), use_bias=False)
    kernel = whole_numbers(2, 3, 1, 1)
    found = layer.apply({"params": {"kernel": kernel}}, x)
    spread = np.zeros((2, 7), np.float32)
    spread[:, ::3] = kernel[..., 0, 0]
    expected = scipy.signal.correlate2d(x[0, :, :, 0], spread, "valid")[::2]
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-5)
