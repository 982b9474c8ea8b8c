"""Densely connected layers against the same layers applied by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.layers.dense_connectivity import densely_connected, transition
from cnnjax.layers.parts import Parts
from cnnjax.ops.convolution import correlate
from tests.variables import drawn_variables

PARTS = Parts(act="tanh", pool="average")


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("spatial", [pytest.param((5,), marks=pytest.mark.slow), (4, 3)])
def test_each_layer_sees_all_before(spatial: tuple[int, ...], bottleneck: bool) -> None:
    x = np.random.default_rng(0).normal(size=(2, *spatial, 3)).astype(np.float32)
    block = densely_connected(PARTS, 3, 2, bottleneck=bottleneck)
    variables = drawn_variables(block, x.shape)

    @jax.jit
    def by_hand(y: jax.Array) -> jax.Array:
        for name in ("layer1", "layer2", "layer3"):
            new = y
            for own in (variables["params"][name][conv]["conv"] for conv in sorted(variables["params"][name])):
                new = correlate(jnp.tanh(new), own["kernel"], padding="same") + own["bias"]
            y = jnp.concatenate([y, new], axis=-1)
        return y

    found = jax.jit(block.apply)(variables, x)
    assert found.shape == (2, *spatial, 3 + 3 * 2)
    np.testing.assert_allclose(found, by_hand(jnp.asarray(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[..., :3], x)


def test_shapes_of_a_layer() -> None:
    x = jax.ShapeDtypeStruct((1, 4, 4, 6), jnp.float32)

    def shapes(bottleneck: bool) -> dict[str, dict[str, tuple[int, ...]]]:
        block = densely_connected(Parts(norm="batch"), 2, 5, bottleneck=bottleneck)
        params = jax.eval_shape(block.init, jax.random.key(0), x)["params"]["layer2"]
        return {
            name: {"conv": p["conv"]["kernel"].shape, "norm": p["norm"]["scale"].shape} for name, p in params.items()
        }

    assert shapes(False) == {"conv1": {"conv": (3, 3, 11, 5), "norm": (11,)}}
    assert shapes(True) == {
        "conv1": {"conv": (1, 1, 11, 20), "norm": (11,)},
        "conv2": {"conv": (3, 3, 20, 5), "norm": (20,)},
    }


def test_transition_mixes_channels_and_halves_the_grid() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    layer = transition(PARTS, 2)
    variables = drawn_variables(layer, x.shape)
    own = variables["params"]["conv"]["conv"]
    mixed = np.tanh(x) @ own["kernel"][0, 0] + own["bias"]
    expected = mixed.reshape(2, 2, 2, 3, 2, 2).mean((2, 4))
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-4, atol=1e-6)


def test_valid_borders_are_refused() -> None:
    with pytest.raises(RequestError, match="padding 'valid' shrinks a densely connected layer; the others keep"):
        densely_connected(Parts(padding="valid"), 2, 2)
