"""Receptive fields against the support of the gradient."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.models.alexnet import alexnet
from cnnjax.models.all_cnn import all_cnn_c
from cnnjax.models.convnet import convnet
from cnnjax.models.densenet import Layout as DenseLayout
from cnnjax.models.densenet import densenet
from cnnjax.models.googlenet import googlenet
from cnnjax.models.lenet import lenet5
from cnnjax.models.network import Network, run_stages
from cnnjax.models.receptive_field import Interval, receptive_field
from cnnjax.models.resnet import Layout, resnet
from cnnjax.models.resnet_cifar import resnet_cifar
from cnnjax.models.vgg import vgg
from cnnjax.ops.convolution import correlate
from cnnjax.ops.pooling import average_pool, max_pool, subsample
from tests.variables import drawn_variables

SIZE = 36


class Layer(NamedTuple):
    """One operation in one dimension; those of pools have no dilation."""

    kind: str
    window: int
    stride: int
    padding: int
    dilation: int


LAYERS = st.builds(
    lambda kind, window, stride, padding, dilation: Layer(
        kind, window, stride, min(padding, window - 1), dilation if kind in ("xla", "patches", "rows") else 1
    ),
    st.sampled_from(["xla", "patches", "rows", "average", "max", "stride"]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(1, 2),
)


def apply_layers(layers: list[Layer], x: jax.Array) -> jax.Array:
    """The layers one after another, with kernels of ones."""
    for kind, window, stride, padding, dilation in layers:
        if kind in ("average", "max"):
            pool = average_pool if kind == "average" else max_pool
            x = pool(x, window, strides=stride, padding=padding)
        elif kind == "stride":
            x = subsample(x, stride)
        else:
            kernel = jnp.ones((window, x.shape[-1], 1))
            options = {"strides": stride, "padding": padding, "dilation": dilation}
            x = correlate(x, kernel, lowering=kind, **options)
    return x


def agrees(interval: Interval, supports: list[np.ndarray], size: int) -> int:
    """Checks each position's support, and returns how many of them lie clear of the border."""
    clear = 0
    for position, support in enumerate(supports):
        first = interval.start + position * interval.stride
        last = first + interval.size - 1
        if first >= 0 and last < size:
            assert (support.min(), support.max()) == (first, last)
            clear += 1
        else:
            assert first <= support.min()
            assert support.max() <= last
    return clear


@given(st.lists(LAYERS, min_size=1, max_size=3))
def test_field_is_the_support_of_the_gradient(layers: list[Layer]) -> None:
    x = jax.ShapeDtypeStruct((1, SIZE, 1), jnp.float32)
    (interval,) = receptive_field(lambda _, x: apply_layers(layers, x), None, x)
    smooth = [layer._replace(kind="average") if layer.kind == "max" else layer for layer in layers]
    found = jax.jit(jax.jacrev(lambda x: apply_layers(smooth, x[None, :, None])[0, :, 0]))(np.ones(SIZE, np.float32))
    assert agrees(interval, [np.flatnonzero(row) for row in np.asarray(found)], SIZE) > 0


@pytest.mark.parametrize(
    ("pool", "padding"), [("max", "same"), ("average", "valid"), ("stride", "same"), ("none", "valid")]
)
def test_stages_of_a_convnet(pool: str, padding: str) -> None:
    model = convnet(3, width=2, depth=2, kernel_size=3, pool=pool, padding=padding, act="leaky_relu", norm="batch")
    inputs = np.random.default_rng(0).normal(size=(64, SIZE, 1)).astype(np.float32)
    variables = drawn_variables(model, inputs.shape)

    @jax.jit
    def both_jacobians(inputs: np.ndarray) -> list[jax.Array]:
        def jacobian(stage: str) -> jax.Array:
            run = jax.jacrev(lambda x: run_stages(model, variables, x[None, :, None], until=stage)[0].sum(-1))
            return (jnp.abs(jax.vmap(run)(inputs)) > 0).any(0)

        return [jacobian("stage1"), jacobian("stage2")]

    for stage, reached in zip(("stage1", "stage2"), both_jacobians(inputs[..., 0]), strict=True):
        shape = jax.ShapeDtypeStruct((1, SIZE, 1), jnp.float32)
        (interval,) = receptive_field(lambda v, x, s=stage: run_stages(model, v, x, until=s), variables, shape)
        assert agrees(interval, [np.flatnonzero(row) for row in np.asarray(reached)], SIZE) > 0


# Linear, so that the gradient is the same at every input. By name: the network, the stage, the sequence's length.
LINEAR: dict[str, tuple[Network, str, int]] = {
    "lenet5": (lenet5(3, pool="average", act="identity"), "stage2", 30),
    "resnet": (resnet_cifar(Layout("basic", (1, 1, 1)), 3, width=2, act="identity"), "stage3", 80),
    "densenet": (
        densenet(DenseLayout((1, 1), 2, 4, "imagenet"), 3, act="identity", pool="average"),
        "stage2",
        90,
    ),
    "alexnet": (alexnet(3, width=2, act="identity", pool="average"), "stage5", 300),
    "vgg": (vgg((1, 2, 1), 3, width=2, act="identity", pool="average"), "stage3", 60),
    "all_cnn": (all_cnn_c(3, width=2, act="identity", dropout=0), "stage3", 60),
    "imagenet_resnet": (resnet(Layout("bottleneck", (1, 1)), 3, width=2, act="identity", pool="average"), "stage2", 90),
    "preactivated_blurred_resnet": (
        resnet_cifar(Layout("basic", (1, 1)), 3, width=2, act="identity", form="preactivation", downsample="blur"),
        "stage2",
        50,
    ),
    "googlenet": (googlenet(3, width=8, act="identity", pool="average"), "stage3", 200),
    "separable": (convnet(3, width=2, dilation=2, act="identity", connectivity="separable", pool="lp"), "stage1", 40),
}


SLOW = ("googlenet", "imagenet_resnet", "preactivated_blurred_resnet")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in LINEAR])
def test_stages_of_published_networks(name: str) -> None:
    model, stage, size = LINEAR[name]
    x = jax.ShapeDtypeStruct((1, size, 1), jnp.float32)
    variables = drawn_variables(model, x.shape)
    (interval,) = receptive_field(lambda v, x: run_stages(model, v, x, until=stage), variables, x)
    run = jax.jacrev(lambda x: run_stages(model, variables, x[None, :, None], until=stage)[0].sum(-1))
    reached = np.asarray(jax.jit(run)(np.zeros(size, np.float32))) != 0
    assert agrees(interval, [np.flatnonzero(row) for row in reached], size) > 1


def test_axes_have_fields_of_their_own() -> None:
    def layer(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return max_pool(correlate(x, kernel, strides=(2, 1), padding=[(1, 0), (0, 2)], dilation=(1, 2)), (1, 2))

    arguments = jax.ShapeDtypeStruct((3, 2, 3, 4), jnp.float32), jax.ShapeDtypeStruct((1, 20, 20, 3), jnp.float32)
    assert receptive_field(layer, *arguments) == (Interval(-1, 3, 2), Interval(0, 4, 2))


def test_shortcut_sees_what_either_branch_sees() -> None:
    def block(kernel: jax.Array, x: jax.Array) -> jax.Array:
        y = correlate(correlate(x, kernel, padding="same"), kernel, padding="same")
        return jnp.concatenate([jnp.maximum(x + y, 0), x], axis=-1)

    arguments = jax.ShapeDtypeStruct((3, 2, 2), jnp.float32), jax.ShapeDtypeStruct((1, 9, 2), jnp.float32)
    assert receptive_field(block, *arguments) == (Interval(-2, 5, 1),)


@pytest.mark.parametrize("function", [lambda x: x.mean((1, 2)), lambda x: x.reshape(1, -1), lambda x: x - x.mean()])
def test_none_where_all_positions_are_mixed(function: Callable[[jax.Array], jax.Array]) -> None:
    x = jax.ShapeDtypeStruct((1, 6, 6, 2), jnp.float32)
    assert receptive_field(lambda _, x: function(x), None, x) is None


@pytest.mark.parametrize("function", [lambda x: x * x.mean(-1, keepdims=True), lambda x: x @ jnp.ones((2, 5))])
def test_mixing_channels_moves_nothing(function: Callable[[jax.Array], jax.Array]) -> None:
    x = jax.ShapeDtypeStruct((1, 6, 6, 2), jnp.float32)
    assert receptive_field(lambda _, x: function(x), None, x) == (Interval(0, 1, 1),) * 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.cumsum(x, axis=1),
        lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 1), (1, 1, 1), "SAME"),
        lambda x: jnp.flip(x, axis=1),
        lambda x: jnp.sort(x, axis=1),
        lambda x: jnp.roll(x, 2, axis=1),
        lambda x: x[:, jnp.arange(9)[::-1]],
        lambda x: jax.lax.cummax(x, axis=1),
    ],
    ids=["cumsum", "reduce_window", "flip", "sort", "roll", "gather", "cummax"],
)
def test_unknown_movement_is_refused_or_counted_as_mixing(function: Callable[[jax.Array], jax.Array]) -> None:
    x = jax.ShapeDtypeStruct((1, 9, 1), jnp.float32)
    try:
        found = receptive_field(lambda _, x: function(x), None, x)
    except NotImplementedError as error:
        assert "receptive field" in str(error)
    else:
        assert found is None
