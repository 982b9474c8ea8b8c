"""Locally connected and dense layers between a convolution's grids, swapped for the convolution."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from cnnjax.layers.connectivity import DenseConv, LocalConv, dense_from_convolution, local_from_convolution
from cnnjax.layers.convolution import Conv

SETTINGS = [
    ((9,), {"kernel_size": 3}),
    ((7, 6), {"kernel_size": 3, "strides": 2, "padding": 1}),
    ((6, 5), {"kernel_size": 2, "padding": "valid"}),
    ((4, 5, 4), {"kernel_size": 3, "strides": 2}),
    ((8, 7), {"kernel_size": 2, "dilation": 2, "padding": 1}),
]
BORDERS: list[dict[str, Any]] = [
    {"border": "reflect", "groups": 3, "dilation": 2},
    {"border": "circular", "strides": 2},
    {"fill": 2.0, "padding": "causal"},
]
"""Of the convolution and the locally connected layer; a dense one has them in its weights."""


def whole_numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def key_and_inputs(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """An initialiser that shows what it was given: its key in the first feature, its fan-in in the others."""
    return jnp.full(shape, float(math.prod(shape[:-1]))).at[..., 0].set(jax.random.key_data(key)[-1].astype(float))


def placement(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "kernel_size"}


@pytest.mark.parametrize(("spatial", "fields"), SETTINGS)
def test_both_start_as_the_convolution_they_are_swapped_for(spatial: tuple[int, ...], fields: dict[str, Any]) -> None:
    x, bias = whole_numbers(0, 2, *spatial, 3), np.array([0.5, -2.0], np.float32)
    kernel = whole_numbers(1, *[fields["kernel_size"]] * len(spatial), 3, 2)

    @jax.jit
    def outputs(x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        layers = [
            (Conv, {"kernel": kernel, "bias": bias}),
            (LocalConv, local_from_convolution(kernel, bias, spatial, **placement(fields))),
            (DenseConv, dense_from_convolution(kernel, bias, spatial, **placement(fields))),
        ]
        return [layer(2, **fields).apply({"params": params}, x) for layer, params in layers]

    convolved, local, dense = outputs(x, kernel)
    np.testing.assert_allclose(local, convolved, atol=1e-4)
    np.testing.assert_allclose(dense, convolved, atol=1e-4)


@pytest.mark.parametrize("fields", BORDERS)
def test_both_start_as_the_convolution_whatever_its_border(fields: dict[str, Any]) -> None:
    x, kernel = whole_numbers(0, 2, 7, 6, 3), whole_numbers(1, 3, 3, 3 // fields.get("groups", 1), 3)
    bias = np.array([0.5, -2.0, 1.0], np.float32)
    placed = {name: value for name, value in fields.items() if name in ("strides", "padding", "dilation")}
    local = local_from_convolution(kernel, bias, (7, 6), **placed)
    dense = dense_from_convolution(kernel, bias, (7, 6), **fields)
    convolved = Conv(3, 3, **fields).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(LocalConv(3, 3, **fields).apply({"params": local}, x), convolved, atol=1e-4)
    np.testing.assert_allclose(DenseConv(3, 3, **placed).apply({"params": dense}, x), convolved, atol=1e-4)


def test_a_dense_layer_without_bias_has_no_place_for_a_constant_border() -> None:
    with pytest.raises(ValueError, match=r"a border of 2.0 needs a bias"):
        dense_from_convolution(jnp.ones((3, 1, 1)), None, (5,), fill=2.0)


def test_both_are_the_correlation_of_signal_processing() -> None:
    image, kernel = whole_numbers(2, 6, 5), whole_numbers(3, 3, 3)
    expected = scipy.signal.correlate(image, kernel, mode="same", method="direct") + 0.5
    convolution = kernel[:, :, None, None], np.array([0.5], np.float32), image.shape
    starts = [(LocalConv, local_from_convolution(*convolution)), (DenseConv, dense_from_convolution(*convolution))]
    for layer, params in starts:
        found = layer(1, 3).apply({"params": params}, image[None, :, :, None])
        np.testing.assert_array_equal(found[0, :, :, 0], expected)


@pytest.mark.parametrize(("spatial", "fields"), SETTINGS)
def test_parameters_have_a_convolutions_initial_shapes(spatial: tuple[int, ...], fields: dict[str, Any]) -> None:
    x = jax.ShapeDtypeStruct((2, *spatial, 3), jnp.float32)
    shape = jax.eval_shape(Conv(4, **fields).init_with_output, jax.random.key(0), x)[0].shape
    window = [fields["kernel_size"]] * len(spatial)
    expected = {
        LocalConv: (*shape[1:-1], *window, 3, 4),
        DenseConv: (3 * math.prod(spatial), math.prod(shape[1:])),
    }
    for layer, kernel in expected.items():
        found, variables = jax.eval_shape(layer(4, **fields).init_with_output, jax.random.key(0), x)
        assert found.shape == shape
        assert jax.tree.map(jnp.shape, variables["params"]) == {"kernel": kernel, "bias": shape[1:]}


def test_each_position_is_drawn_as_a_convolution_by_a_key_of_its_own() -> None:
    x = jnp.ones((1, 4, 5, 2))
    found = LocalConv(3, 3, kernel_init=key_and_inputs).init(jax.random.key(0), x)["params"]["kernel"]
    assert found.shape == (4, 5, 3, 3, 2, 3)
    keys, inputs = found[..., 0], found[..., 1:]
    assert len(np.unique(keys)) == 4 * 5
    np.testing.assert_array_equal(inputs, np.full_like(inputs, 3 * 3 * 2))


def test_dense_kernel_is_drawn_for_the_fan_in_of_the_whole_input() -> None:
    x = jnp.ones((1, 4, 5, 2))
    found = DenseConv(3, 3, kernel_init=key_and_inputs).init(jax.random.key(0), x)["params"]["kernel"]
    np.testing.assert_array_equal(found[:, 1:], np.full((40, 59), 4 * 5 * 2))


@pytest.mark.parametrize("layer", [LocalConv, DenseConv])
def test_bias_starts_at_zero_is_of_each_position_and_can_be_left_out(layer: Any) -> None:
    x = jnp.ones((1, 4, 1))
    params = layer(2, 3, kernel_init=jax.nn.initializers.zeros).init(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(params["bias"], np.zeros((4, 2)))
    bias = whole_numbers(4, 4, 2)
    np.testing.assert_array_equal(layer(2, 3).apply({"params": params | {"bias": bias}}, x)[0], bias)
    assert set(jax.eval_shape(layer(2, 3, use_bias=False).init, jax.random.key(0), x)["params"]) == {"kernel"}


def test_a_convolution_without_bias_gives_no_bias() -> None:
    for start in (local_from_convolution, dense_from_convolution):
        assert set(start(jnp.ones((3, 1, 1)), None, (5,))) == {"kernel"}


@pytest.mark.parametrize("layer", [LocalConv, DenseConv])
def test_a_window_for_each_dimension(layer: Any) -> None:
    x = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    found, _ = jax.eval_shape(layer(2, (3, 5), padding="valid").init_with_output, jax.random.key(0), x)
    assert found.shape == (1, 6, 4, 2)


@pytest.mark.parametrize("layer", [LocalConv, DenseConv])
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kernel_size": (3, 3)}, "kernel_size must be a positive number, or 1 of them"),
        ({"kernel_size": 3, "strides": 0}, "strides"),
        ({"kernel_size": 3, "padding": "smae"}, "padding must be"),
        ({"kernel_size": 9, "padding": "valid"}, "does not fit"),
    ],
)
def test_wrong_fields_are_refused(layer: Any, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        layer(2, kernel_init=jax.nn.initializers.ones, **fields).init(jax.random.key(0), jnp.ones((1, 8, 1)))
