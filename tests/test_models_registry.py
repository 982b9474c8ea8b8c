"""Every network by name: its number of parameters is pinned, and a wrong request names the right one."""

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.config import RequestError
from cnnjax.models.registry import NETWORKS, build

# With ten classes, on the input that the network was made for.
PARAMETERS = {
    "convnet": ((28, 28, 1), (25 * 1 * 16 + 16) + (25 * 16 * 32 + 32) + (7 * 7 * 32 * 10 + 10)),
    "lenet5": ((28, 28, 1), 61_706),
    "logistic": ((28, 28, 1), 784 * 10 + 10),
}


def test_every_network_has_a_pinned_number_of_parameters() -> None:
    assert set(PARAMETERS) == set(NETWORKS)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_number_of_parameters(name: str) -> None:
    input_shape, expected = PARAMETERS[name]
    x = jax.ShapeDtypeStruct((1, *input_shape), np.float32)
    params = jax.eval_shape(build(name, num_classes=10).init, jax.random.key(0), x)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_last_stage_is_a_head_of_so_many_classes(name: str) -> None:
    model = build(name, num_classes=7)
    x = jax.ShapeDtypeStruct((2, *PARAMETERS[name][0]), np.float32)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert logits.shape == (2, 7)
    assert model.stage_names[-1] == "head"


def test_fields_change_the_network() -> None:
    assert build("convnet", num_classes=10, depth=3).stage_names == ("stage1", "stage2", "stage3", "head")
    assert cnnjax.build("convnet", num_classes=10, depth=1).stage_names == ("stage1", "head")


def test_axis_of_devices_reaches_the_layers_that_share_statistics() -> None:
    model = build("convnet", num_classes=10, axis_name="devices", norm="batch", dropout=0.5)
    assert model.stages[0].module.norm.axis_name == "devices"
    assert model.stages[-1].module.dropout.axis_name == "devices"
    assert build("logistic", num_classes=10, axis_name="devices") == build("logistic", num_classes=10)


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("convnt", {}, "unknown model 'convnt'; did you mean 'convnet'?"),
        ("convnet", {"widht": 8}, "model convnet has no field 'widht'; did you mean 'width'?"),
        ("lenet5", {"depth": 8}, "model lenet5 has no field 'depth'; there are: act, init, pool"),
        ("logistic", {"width": 8}, "model logistic has no field 'width'; there are: none"),
        ("convnet", {"pool": "averge"}, "unknown pool 'averge'; did you mean 'average'?"),
    ],
)
def test_wrong_request_names_the_right_one(name: str, fields: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        build(name, num_classes=10, **fields)
    assert str(caught.value) == says
