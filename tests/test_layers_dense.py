"""The dense layer."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.layers.dense import Dense


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 1, 3)])
def test_layer_is_a_matrix_on_each_flattened_example(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.integers(-3, 4, size).astype(np.float32) for size in [(4, *shape), (6, 5), (5,)])
    found = Dense(5).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    expected = [[sum(kernel[:, f] * example.ravel()) + bias[f] for f in range(5)] for example in x]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_parameters() -> None:
    layer = Dense(5, kernel_init=nn.initializers.ones_init())
    params = layer.init(jax.random.key(0), np.ones((4, 2, 3), np.float32))["params"]
    assert {name: array.shape for name, array in params.items()} == {"kernel": (6, 5), "bias": (5,)}
    np.testing.assert_array_equal(params["bias"], np.zeros(5))
