"""Where filters are and what they see, without computing anything; and what a layer is given."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.config import RequestError
from cnnjax.filters.places import Place, find_places, layer_input
from cnnjax.filters.plan import flatten
from cnnjax.layers.auxiliary import AuxiliaryHead
from cnnjax.layers.connectivity import LocalConv
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.models.coates import coates
from cnnjax.models.convnet import convnet
from cnnjax.models.network import Network, Stage
from cnnjax.models.pcanet import pcanet
from cnnjax.models.registry import build
from tests.variables import drawn_variables


def params_of(model: Network, shape: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    example = jax.ShapeDtypeStruct((1, *shape), "float32")
    return flatten(jax.eval_shape(model.init, jax.random.key(0), example)["params"])


def places_of(model: Network, shape: tuple[int, ...]) -> list[Place]:
    return find_places(model, params_of(model, shape), shape)


def test_places_of_a_convnet_by_hand() -> None:
    stage1, stage2, head = places_of(convnet(10, width=2, depth=2, kernel_size=3, norm="batch"), (8, 8, 3))
    assert stage1 == Place("stage1/conv/kernel", (8, 8, 3), (), (3, 3), 3, 2)
    assert stage2 == Place("stage2/conv/kernel", (4, 4, 2), (), (3, 3), 2, 4)
    assert head == Place("head/layer/kernel", (2, 2, 4), (), (), 16, 10)
    assert (stage2.layer, stage2.fan_in, stage2.shape) == ("stage2/conv", 18, (3, 3, 2, 4))
    assert (head.layer, head.fan_in, head.shape) == ("head/layer", 16, (16, 10))


@pytest.mark.parametrize("shape", [(9, 2), (7, 6, 2), (5, 4, 3, 2)])
def test_every_number_of_dimensions(shape: tuple[int, ...]) -> None:
    dimensions = len(shape) - 1
    layers = {
        "shared": Conv(6, 3),
        "grouped": Conv(3, 3, groups=3),
        "each": Conv(6, 1, groups=3),
        "local": LocalConv(2, 3, padding="valid"),
        "head": Dense(5),
    }
    model = Network(tuple(Stage(name, layer) for name, layer in layers.items()))
    inner = tuple(size - 2 for size in shape[:-1])
    assert places_of(model, shape) == [
        Place("shared/kernel", shape, (), (3,) * dimensions, 2, 6),
        Place("grouped/kernel", (*shape[:-1], 6), (), (3,) * dimensions, 2, 3, groups=3),
        Place("each/kernel", (*shape[:-1], 3), (), (1,) * dimensions, 1, 6, groups=3),
        Place("local/kernel", (*shape[:-1], 6), inner, (3,) * dimensions, 6, 2),
        Place("head/kernel", (*inner, 2), (), (), int(np.prod(inner)) * 2, 5),
    ]


def test_layers_that_whiten_compare_and_share_among_channels() -> None:
    whiten, code, head = places_of(coates(10, width=7, kernel_size=3), (6, 6, 2))
    assert whiten.contrast is not None and whiten.contrast > 0
    assert (whiten.window, whiten.channels, whiten.features) == ((3, 3), 2, 18)
    assert code == Place("code/centroids", (4, 4, 18), (), (), 18, 7)
    assert head.fan_in == 4 * 7
    stage1, stage2, _ = places_of(pcanet(10, width=3, kernel_size=3, pool_size=4), (8, 8, 1))
    assert (stage1.path, stage1.features) == ("stage1/kernel", 3)
    assert stage2 == Place("stage2/layer/kernel", (8, 8, 1), (), (3, 3), 1, 3)


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp", (6, 6, 1)), ("gru", (9, 2)), ("lenet1", (28, 28, 1)), ("resnet20", (8, 8, 1))]
)
def test_every_kernel_has_a_place_in_the_order_of_execution(name: str, shape: tuple[int, ...]) -> None:
    model = build(name, num_classes=3)
    params = params_of(model, shape)
    places = find_places(model, params, shape)
    assert sorted(place.path for place in places) == sorted(path for path in params if path.endswith("/kernel"))
    for place in places:
        assert (*place.positions, *place.shape) == params[place.path].shape
    stages = [model.stage_names.index(place.path.split("/")[0]) for place in places]
    assert stages == sorted(stages)


def test_input_of_a_layer_is_the_output_of_what_is_before_it_in_evaluation() -> None:
    model = convnet(3, width=2, depth=2, kernel_size=3, norm="batch", dropout=0.5)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    variables = drawn_variables(model, x.shape)

    @jax.jit
    def run(x: jax.Array) -> list[jax.Array]:
        middle = model.apply(variables, x, until="stage1")
        return [
            layer_input(model, variables, x, "stage1/conv"),
            layer_input(model, variables, x, "stage2/conv"),
            layer_input(model, variables, middle, "head/layer", after="stage1"),
            middle,
            model.apply(variables, x, until="stage2"),
        ]

    first, second, last, middle, features = map(np.asarray, run(x))
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(second, middle)
    np.testing.assert_allclose(last, features, rtol=1e-5, atol=1e-6)


def test_auxiliary_head_has_places_but_no_input_in_evaluation() -> None:
    class Doubled(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
            return AuxiliaryHead(Dense(3))(2 * x, train=train)

    model = Network((Stage("stage1", Doubled()), Stage("head", Dense(3))))
    auxiliary, _ = places_of(model, (2, 1))
    x = np.zeros((1, 2, 1), np.float32)
    with pytest.raises(RequestError, match=f"{auxiliary.layer} sees nothing in evaluation"):
        layer_input(model, drawn_variables(model, x.shape), x, auxiliary.layer)
