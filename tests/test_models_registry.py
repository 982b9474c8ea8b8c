"""Every network by name: its parameters and multiply-adds are pinned, and a wrong request names the right one."""

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import cnnjax
from cnnjax.config import RequestError
from cnnjax.layers.activations import ACTIVATIONS
from cnnjax.layers.initialisers import INITIALISERS, uniform_by_inputs
from cnnjax.layers.normalisation import NORMS
from cnnjax.layers.parts import CONNECTIVITIES, DOWNSAMPLINGS, PADDINGS
from cnnjax.layers.pooling import POOLS
from cnnjax.models import describe
from cnnjax.models.registry import NETWORKS, build


class Pinned(NamedTuple):
    """What a network has on the input that it was made for; billions of multiply-adds, to three decimals (or all of
    them, of the small ones)."""

    parameters: int
    multiply_adds: float
    input_shape: tuple[int, ...] = (224, 224, 3)
    num_classes: int = 1000


IMAGENET = {
    "alexnet": Pinned(61_100_840, 0.714),
    "vgg11": Pinned(132_863_336, 7.609),
    "vgg13": Pinned(133_047_848, 11.308),
    "vgg16": Pinned(138_357_544, 15.470),
    "vgg19": Pinned(143_667_240, 19.632),
    "vgg11_bn": Pinned(132_868_840, 7.609),
    "vgg13_bn": Pinned(133_053_736, 11.308),
    "vgg16_bn": Pinned(138_365_992, 15.470),
    "vgg19_bn": Pinned(143_678_248, 19.632),
    "googlenet": Pinned(6_624_904, 1.498),
    "resnet18": Pinned(11_689_512, 1.814),
    "resnet34": Pinned(21_797_672, 3.664),
    "resnet50": Pinned(25_557_032, 4.089),
    "resnet101": Pinned(44_549_160, 7.801),
    "resnet152": Pinned(60_192_808, 11.514),
    "resnet200": Pinned(64_673_832, 15.007),
    "densenet121": Pinned(7_978_856, 2.834),
    "densenet161": Pinned(28_681_000, 7.728),
    "densenet169": Pinned(14_149_480, 3.360),
    "densenet201": Pinned(20_013_928, 4.291),
}
# A plain network lacks the projections: 1x1 kernels and the two vectors of a norm.
BASIC_PROJECTIONS = sum(2**i * 64 * 2**i * 128 + 2 * 2**i * 128 for i in range(3))
BOTTLENECK_PROJECTIONS = (64 * 256 + 2 * 256) + sum(2**i * 256 * 2**i * 512 + 2 * 2**i * 512 for i in range(3))
PLAIN_GMAC = {18: 1.795, 34: 3.644, 50: 3.730, 101: 7.442, 152: 11.154, 200: 14.648}
PLAIN = {
    f"plain{depth}": Pinned(IMAGENET[f"resnet{depth}"].parameters - projections, PLAIN_GMAC[depth])
    for depths, projections in (((18, 34), BASIC_PROJECTIONS), ((50, 101, 152, 200), BOTTLENECK_PROJECTIONS))
    for depth in depths
}
CIFAR_RESNETS = {
    20: (269_722, 0.041),
    32: (464_154, 0.069),
    44: (658_586, 0.097),
    56: (853_018, 0.125),
    110: (1_727_962, 0.253),
}
CIFAR = {
    **{
        f"{kind}{depth}": Pinned(*pinned, (32, 32, 3), 10)
        for kind in ("resnet", "plain")
        for depth, pinned in CIFAR_RESNETS.items()
    },
    "densenet_40_12": Pinned(1_019_722, 0.265, (32, 32, 3), 10),
    "densenet_bc_100_12": Pinned(769_162, 0.288, (32, 32, 3), 10),
    "all_cnn_c": Pinned(1_369_738, 0.271, (32, 32, 3), 10),
}
SMALL = {
    "logistic": Pinned(410, 400, (40, 1), 10),
    "mlp": Pinned(15_210, 40 * 100 + 100 * 100 + 100 * 10, (40, 1), 10),
    "gru": Pinned(5_134, 40 * 2 * (18 + 18 * 6) + 480 * 10, (40, 1), 10),
    "convnet_mnist1d": Pinned(5_210, 19 * 5 * 25 + (10 + 5) * 3 * 25 * 25 + 125 * 10, (40, 1), 10),
    "convnet": Pinned(25 * 16 + 16 + 25 * 16 * 32 + 32 + 49 * 32 * 10 + 10, 2_838_080, (28, 28, 1), 10),
    "lenet1": Pinned(9_760, 64 * 25 * 12 + 16 * 25 * 12 * 12 + 192 * 30 + 30 * 10, (16, 16, 1), 10),
    "lenet5": Pinned(61_706, 416_520, (28, 28, 1), 10),
    "jarrett": Pinned(26 * 16 + (25 * 16 + 1) * 64 + 3137 * 10, 25 * 16 * (784 + 196 * 64) + 31_360, (28, 28, 1), 10),
    "coates": Pinned(37 * 36 + 36 * 100 + 401 * 10, 23**2 * 36 * 136 + 4_000, (28, 28, 1), 10),
    "pcanet": Pinned(2 * 50 * 8 + 73_729 * 10, 784 * 49 * 8 * 9 + 737_280, (28, 28, 1), 10),
}
PINNED = {**IMAGENET, **PLAIN, **CIFAR, **SMALL}

# The other forms of the same names.
FORMS: list[tuple[str, dict[str, Any], Pinned]] = [
    ("alexnet", {"form": "2012"}, Pinned(60_965_224, 0.724, (227, 227, 3))),
    ("googlenet", {"form": "paper"}, Pinned(6_998_552, 1.583)),
    ("googlenet", {"form": "paper", "auxiliary": True}, Pinned(13_378_280, 1.583)),
    ("googlenet", {"auxiliary": True}, Pinned(13_004_888, 1.498)),
    ("lenet5", {"form": "original"}, Pinned(60_000, 416_520, (28, 28, 1), 10)),
    ("lenet5", {"form": "original", "padding": "valid"}, Pinned(60_000, 416_520, (32, 32, 1), 10)),
    ("lenet5", {}, Pinned(61_706, 416_520, (32, 32, 1), 10)),
    ("lenet5", {"form": "original"}, Pinned(60_000, 416_520, (32, 32, 1), 10)),
    ("lenet5", {"padding": "valid"}, Pinned(61_706, 416_520, (32, 32, 1), 10)),
    ("resnet18", {"form": "preactivation"}, Pinned(11_687_720, 1.814)),
    ("resnet34", {"form": "preactivation"}, Pinned(21_795_880, 3.664)),
    ("resnet50", {"form": "preactivation"}, Pinned(25_549_352, 4.089)),
    ("resnet101", {"form": "preactivation"}, Pinned(44_541_480, 7.801)),
    ("resnet152", {"form": "preactivation"}, Pinned(60_185_128, 11.514)),
    ("resnet200", {"form": "preactivation"}, Pinned(64_666_152, 15.007)),
    ("resnet18", {"stem": "small"}, Pinned(11_173_962, 0.555, (32, 32, 3), 10)),
    ("vgg16", {"norm": "batch"}, Pinned(138_365_992, 15.470)),
]


def measured(name: str, pinned: Pinned, **fields: Any) -> Pinned:
    """What the network has, its multiply-adds as precise as those pinned."""
    table = describe(build(name, num_classes=pinned.num_classes, **fields), pinned.input_shape)
    counted = table.multiply_adds.iloc[-1]
    shown = counted if isinstance(pinned.multiply_adds, int) else round(counted / 1e9, 3)
    assert table.stage.iloc[-2:].tolist() == ["head", "total"]
    (classes,) = table.output.iloc[-1]
    return Pinned(table.parameters.iloc[-1], shown, pinned.input_shape, classes)


def test_every_network_has_a_pinned_number_of_parameters() -> None:
    assert set(PINNED) == set(NETWORKS)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_parameters_and_multiply_adds(name: str) -> None:
    assert measured(name, PINNED[name]) == PINNED[name]


@pytest.mark.parametrize(("name", "fields", "pinned"), FORMS)
def test_parameters_and_multiply_adds_of_other_forms(name: str, fields: dict[str, Any], pinned: Pinned) -> None:
    assert measured(name, pinned, **fields) == pinned


def test_fields_change_the_network() -> None:
    assert build("convnet", num_classes=10, depth=3).stage_names == ("stage1", "stage2", "stage3", "head")
    assert cnnjax.build("convnet", num_classes=10, depth=1).stage_names == ("stage1", "head")


def test_axis_of_devices_reaches_the_layers_that_share_statistics() -> None:
    model = build("convnet", num_classes=10, axis_name="devices", norm="batch", dropout=0.5)
    assert model.stages[0].module.norm.axis_name == "devices"
    assert model.stages[-1].module.layers[0].module.axis_name == "devices"
    assert build("logistic", num_classes=10, axis_name="devices") == build("logistic", num_classes=10)


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("convnt", {}, "unknown model 'convnt'; did you mean 'convnet'?"),
        ("convnet", {"widht": 8}, "model convnet has no field 'widht'; did you mean 'width'?"),
        ("lenet5", {"depth": 8}, "model lenet5 has no field 'depth'; did you mean 'width'?"),
        ("plain18", {"shortcut": "padded"}, "model plain18 has no field 'shortcut'"),
        ("vgg16_bn", {"norm": "none"}, "model vgg16_bn has no field 'norm'"),
        ("logistic", {"width": 8}, "model logistic has no field 'width'; there are: init"),
        ("convnet", {"pool": "averge"}, "unknown pool 'averge'; did you mean 'average'?"),
        ("vgg11", {"pool": "pyramid"}, "pool 'pyramid' is of regions, which only a convnet takes, in its last stage"),
    ],
)
def test_wrong_request_names_the_right_one(name: str, fields: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        build(name, num_classes=10, **fields)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"width": 0}, "model convnet: width"),
        ({"width": 1.5}, "model convnet: width"),
        ({"norm": ["batch"]}, "model convnet: norm"),
        ({"pool": 3}, "model convnet: pool"),
        ({"dropout": 1.5}, "model convnet: dropout"),
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1; given 0"),
        ({"num_classes": "ten"}, "num_classes must be a whole number of at least 1; given 'ten'"),
    ],
)
def test_values_that_make_no_sense_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        build("convnet", **{"num_classes": 10, **fields})
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


# One member of each family, small; the values that it refuses by a RequestError, by field.
SWAPPED: dict[str, tuple[dict[str, Any], tuple[int, ...], dict[str, tuple[str, ...]]]] = {
    "convnet": ({"width": 4}, (32, 32, 3), {}),
    "lenet5": ({}, (32, 32, 1), {}),
    "lenet1": ({}, (16, 16, 1), {}),
    "alexnet": ({"width": 4, "stem": "small"}, (64, 64, 3), {}),
    "vgg11": ({"width": 4, "stem": "small"}, (64, 64, 3), {}),
    "googlenet": ({"width": 8, "stem": "small"}, (16, 16, 3), {"padding": ("valid",)}),
    "resnet18": ({"width": 4}, (64, 64, 3), {"padding": ("valid",)}),
    "resnet20": ({"width": 4}, (32, 32, 3), {"padding": ("valid",)}),
    "densenet_40_12": ({"width": 2}, (16, 16, 3), {"padding": ("valid",)}),
    "all_cnn_c": ({"width": 4}, (32, 32, 3), {}),
    "convnet_mnist1d": ({}, (40, 1), {}),
    "logistic": ({}, (40, 1), {}),
    "mlp": ({}, (40, 1), {"norm": ("local_contrast",)}),
    "gru": ({}, (40, 1), {}),
}
VALUES: dict[str, Iterable[str]] = {
    "pool": POOLS,
    "norm": NORMS,
    "act": ACTIVATIONS,
    "init": INITIALISERS,
    "padding": PADDINGS,
    "connectivity": CONNECTIVITIES,
    "downsample": DOWNSAMPLINGS,
}
SLOW = ("googlenet", "densenet_40_12", "resnet18", "resnet20", "all_cnn_c", "vgg11", "alexnet")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in SWAPPED])
def test_every_part_can_be_swapped_by_its_field(name: str) -> None:
    fields, input_shape, refused = SWAPPED[name]
    accepted = set(inspect.signature(NETWORKS[name]).parameters)
    for field in accepted & set(VALUES):
        for value in VALUES[field]:
            if value in refused.get(field, ()) or (name == "vgg11" and value == "valid"):
                continue
            model = build(name, num_classes=3, **{**fields, field: value})
            table = describe(model, input_shape)
            assert table.output.iloc[-1] == (3,), (field, value)
    for field, values in refused.items():
        for value in values:
            with pytest.raises(RequestError):
                build(name, num_classes=3, **{**fields, field: value})


GRIDS: dict[str, dict[int, tuple[dict[str, Any], int]]] = {
    "alexnet": {1: ({}, 224), 3: ({"stem": "small", "width": 8}, 32)},
    "vgg11": {1: ({}, 224), 3: ({"stem": "small"}, 32)},
    "lenet1": {1: ({}, 16), 3: ({}, 16)},
    "lenet5": {1: ({}, 28), 3: ({}, 28)},
    "all_cnn_c": {1: ({}, 32), 3: ({}, 32)},
    "googlenet": {1: ({}, 224), 3: ({"stem": "small"}, 16)},
}
"""By spatial dimensions: fields, and the size along each."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "googlenet" else n for n in GRIDS])
def test_one_and_three_dimensions(name: str) -> None:
    first = {}
    for dimensions, (fields, size) in GRIDS[name].items():
        model = build(name, num_classes=10, **fields)
        x = jax.ShapeDtypeStruct((2, *[size] * dimensions, 1), jnp.float32)
        logits, variables = jax.eval_shape(model.init_with_output, {"params": jax.random.key(0)}, x)
        assert logits.shape == (2, 10)
        first[dimensions] = jax.tree.leaves(variables["params"][model.stage_names[0]])
    assert {leaf.ndim for leaf in first[1]} <= {1, 2, 3}
    assert max(leaf.ndim for leaf in first[3]) == 5


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ("googlenet", "densenet_40_12") else n for n in SWAPPED]
)
def test_init_torch_draws_every_kernel_and_bias_of_the_network(name: str) -> None:
    fields, input_shape, _ = SWAPPED[name]
    if "init" not in inspect.signature(NETWORKS[name]).parameters:
        return
    drawn = {}

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        for field in ("kernel_init", "bias_init") if hasattr(context.module, "kernel_init") else ():
            drawn[f"{'/'.join(context.module.path)} {field}"] = getattr(context.module, field, None)
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        jax.eval_shape(build(name, num_classes=3, **{**fields, "init": "torch"}).init, jax.random.key(0), x)
    assert any(place.startswith("head") for place in drawn)
    assert set(drawn.values()) <= {INITIALISERS["torch"], uniform_by_inputs, None}
