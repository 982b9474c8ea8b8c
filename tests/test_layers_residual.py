"""Residual blocks against their layers applied by hand, and shortcuts against NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from cnnjax.config import RequestError
from cnnjax.layers.parts import Parts
from cnnjax.layers.residual import PaddedShortcut, residual_block
from cnnjax.ops.convolution import correlate
from tests.variables import drawn_variables

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 4)), jnp.float32)
PARTS = Parts(norm="batch")


def apply(block: Any, x: jax.Array = X) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """In evaluation; and the variables, by path."""
    variables = drawn_variables(block, x.shape)
    return np.asarray(jax.jit(block.apply)(variables, x)), traverse_util.flatten_dict(variables, sep="/")


def norm(x: jax.Array, path: str, variables: dict[str, np.ndarray]) -> jax.Array:
    params = [variables[f"params/{path}/norm/{name}"] for name in ("scale", "bias")]
    mean, var = (variables[f"batch_stats/{path}/norm/{name}"] for name in ("mean", "var"))
    return (x - mean) / jnp.sqrt(var + 1e-5) * params[0] + params[1]


def conv(x: jax.Array, path: str, variables: dict[str, np.ndarray], strides: int = 1) -> jax.Array:
    name = f"params/{path}/conv/kernel"
    kernel = variables[name if name in variables else f"params/{path}/kernel"]
    return correlate(x, kernel, strides=strides, padding=kernel.shape[0] // 2)


def relu(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0)


def shortcut_a(x: np.ndarray, features: int) -> np.ndarray:
    found = np.zeros((x.shape[0], -(-x.shape[1] // 2), -(-x.shape[2] // 2), features))
    for i in range(found.shape[1]):
        for j in range(found.shape[2]):
            found[:, i, j, : x.shape[3]] = x[:, 2 * i, 2 * j]
    return found


@pytest.mark.parametrize("shortcut", ["projected", "padded", "none"])
@pytest.mark.parametrize(("features", "strides"), [(4, 1), (6, 2)])
def test_basic_block(features: int, strides: int, shortcut: str) -> None:
    found, v = apply(residual_block(PARTS, "basic", features, strides, shortcut=shortcut))
    y = relu(norm(conv(X, "branch/conv1", v, strides), "branch/conv1", v))
    y = norm(conv(y, "branch/conv2", v), "branch/conv2", v)
    skip: Any = 0
    if shortcut != "none":
        skip = X
    if strides == 2 and shortcut == "projected":
        skip = norm(conv(X, "shortcut", v, 2), "shortcut", v)
    if strides == 2 and shortcut == "padded":
        skip = shortcut_a(np.asarray(X), features)
    assert any("shortcut" in path for path in v) == (strides == 2 and shortcut == "projected")
    np.testing.assert_allclose(found, relu(y + skip), rtol=1e-4, atol=1e-5)


def test_bottleneck_has_its_stride_on_the_3x3() -> None:
    found, v = apply(residual_block(PARTS, "bottleneck", 2, 2))
    assert v["params/branch/conv2/conv/kernel"].shape == (3, 3, 2, 2)
    y = relu(norm(conv(X, "branch/conv1", v), "branch/conv1", v))
    y = relu(norm(conv(y, "branch/conv2", v, 2), "branch/conv2", v))
    y = norm(conv(y, "branch/conv3", v), "branch/conv3", v)
    np.testing.assert_allclose(found, relu(y + norm(conv(X, "shortcut", v, 2), "shortcut", v)), rtol=1e-4, atol=1e-5)
    assert found.shape == (2, 3, 3, 8)


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
def test_preactivated_block(strides: int, activated: bool) -> None:
    features = 4 * strides
    block = residual_block(PARTS, "basic", features, strides, form="preactivation", activated=activated)
    found, v = apply(block)
    assert any(path.startswith("params/activation") for path in v) != activated
    a = X if activated else relu(norm(X, "activation", v))
    y = conv(a, "branch/conv1", v, strides)
    y = conv(relu(norm(y, "branch/conv2", v)), "branch/conv2", v)
    # The identity carries the raw input; a projection sees the activated one and has no norm of its own.
    skip = X if strides == 1 else conv(a, "shortcut", v, strides)
    np.testing.assert_allclose(found, y + skip, rtol=1e-4, atol=1e-5)


def test_preactivated_bottleneck() -> None:
    found, v = apply(residual_block(PARTS, "bottleneck", 1, form="preactivation", shortcut="padded"))
    y = conv(relu(norm(X, "activation", v)), "branch/conv1", v)
    for name in ("branch/conv2", "branch/conv3"):
        y = conv(relu(norm(y, name, v)), name, v)
    np.testing.assert_allclose(found, y + X, rtol=1e-4, atol=1e-5)


def blurred(x: jax.Array) -> np.ndarray:
    """[1, 2, 1] / 4 along either axis of the mirrored grid, at every second position (Zhang 2019)."""
    x = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    x = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
    return ((x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4)[:, ::2, ::2]


BLURRED = Parts(norm="batch", downsample="blur")


def test_a_blurred_block_detects_before_it_is_down_sampled() -> None:
    found, v = apply(residual_block(BLURRED, "basic", 6, 2))
    y = blurred(relu(norm(conv(X, "branch/conv1", v), "branch/conv1", v)))
    y = norm(conv(y, "branch/conv2", v), "branch/conv2", v)
    skip = norm(conv(blurred(X), "shortcut/layer", v), "shortcut/layer", v)
    np.testing.assert_allclose(found, relu(y + skip), rtol=1e-4, atol=1e-5)
    assert apply(residual_block(BLURRED, "basic", 4, 1))[0].shape == X.shape


def test_a_blurred_block_with_preactivation_and_padded_shortcut() -> None:
    found, v = apply(residual_block(BLURRED, "basic", 6, 2, form="preactivation", shortcut="padded"))
    a = relu(norm(X, "activation", v))
    y = blurred(relu(norm(conv(a, "branch/conv1", v), "branch/conv2", v)))
    y = conv(y, "branch/conv2/conv/layer", v)
    skip = np.pad(blurred(a), ((0, 0), (0, 0), (0, 0), (0, 2)))
    np.testing.assert_allclose(found, y + skip, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial", [(5,), (4, 3), (3, 2, 4)])
def test_every_number_of_dimensions(spatial: tuple[int, ...]) -> None:
    x = jnp.ones((1, *spatial, 2))
    halved = tuple(-(-size // 2) for size in spatial)
    for shortcut in ("projected", "padded"):
        block = residual_block(Parts(), "basic", 3, 2, shortcut=shortcut)
        y, _ = jax.eval_shape(block.init_with_output, jax.random.key(0), x)
        assert y.shape == (1, *halved, 3)


def test_padded_shortcut_in_one_dimension() -> None:
    x = np.arange(10.0).reshape(1, 5, 2)
    found = PaddedShortcut(3, 2).apply({}, jnp.asarray(x))
    np.testing.assert_array_equal(found, [[[0, 1, 0], [4, 5, 0], [8, 9, 0]]])


def test_padded_shortcut_cannot_drop_channels() -> None:
    with pytest.raises(ValueError, match="cannot take 2 channels to 1: project instead"):
        PaddedShortcut(1, 1).apply({}, jnp.ones((1, 3, 2)))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "botleneck"}, "unknown block 'botleneck'; did you mean 'bottleneck'?"),
        ({"form": "preactivated"}, "unknown form 'preactivated'; did you mean 'preactivation'?"),
        ({"shortcut": "paded"}, "unknown shortcut 'paded'; did you mean 'padded'?"),
        (
            {"parts": Parts(padding="valid")},
            "padding 'valid' shrinks a residual block's branch; the others keep the grid",
        ),
    ],
)
def test_wrong_request(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        residual_block(**{"parts": PARTS, "kind": "basic", "features": 4, **fields})
    assert str(caught.value) == says
