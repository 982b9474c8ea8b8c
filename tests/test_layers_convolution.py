"""The convolution layer in one to three dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import linen as nn

from cnnjax.layers.convolution import Conv


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
