"""VGG against the paper's and torchvision's numbers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models.cost import multiply_adds
from cnnjax.models.network import Network, run_stages
from cnnjax.models.vgg import VGGS
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables

IMAGENET = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
PUBLISHED = {  # parameters; thousand million multiply-adds
    "vgg11": (132_863_336, 7.609),
    "vgg13": (133_047_848, 11.308),
    "vgg16": (138_357_544, 15.470),
    "vgg19": (143_667_240, 19.632),
    "vgg11_bn": (132_868_840, 7.609),
    "vgg13_bn": (133_053_736, 11.308),
    "vgg16_bn": (138_365_992, 15.470),
    "vgg19_bn": (143_678_248, 19.632),
}


def shapes_of(model: Network, x: jax.ShapeDtypeStruct) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0), x)


@pytest.mark.parametrize("name", VGGS)
def test_parameters_and_multiply_adds(name: str) -> None:
    model = VGGS[name](1000)
    variables = shapes_of(model, IMAGENET)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    cost = multiply_adds(functools.partial(run_stages, model), variables, IMAGENET)
    assert (parameters, round(cost / 1e9, 3)) == PUBLISHED[name]
    assert ("batch_stats" in variables) == name.endswith("_bn")


def test_output_of_each_stage() -> None:
    model = VGGS["vgg16"](1000)
    variables = shapes_of(model, IMAGENET)
    found = [
        jax.eval_shape(functools.partial(run_stages, model, until=stage), variables, IMAGENET).shape[1:]
        for stage in model.stage_names
    ]
    assert found == [
        (112, 112, 64),
        (56, 56, 128),
        (28, 28, 256),
        (14, 14, 512),
        (7, 7, 512),
        (4096,),
        (4096,),
        (1000,),
    ]


def test_small_stem_and_width() -> None:
    model = VGGS["vgg11"](10, stem="small", width=16)
    params = shapes_of(model, jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))["params"]
    assert [params[f"stage{i}"]["block1"]["conv"]["kernel"].shape[-1] for i in range(1, 6)] == [16, 32, 64, 128, 128]
    assert params["stage6"]["block"]["dense"]["kernel"].shape == (128, 128)
    assert params["head"]["dense"]["kernel"].shape == (128, 10)


def test_a_stage_is_its_convolutions_then_one_pool() -> None:
    x = np.random.default_rng(0).integers(-3, 4, (1, 4, 1)).astype(np.float32)
    model = VGGS["vgg13"](2, width=1, act="identity", pool="average")
    params = {
        "stage1": {
            f"block{i}": {"conv": {"kernel": np.float32([[[i]], [[1]], [[0]]]), "bias": np.float32([i])}}
            for i in (1, 2)
        }
    }
    found = run_stages(model, {"params": params}, x, until="stage1")
    a = np.concatenate([[0], x.ravel()])
    b = np.concatenate([[0], 1 * a[:-1] + a[1:] + 1])
    c = 2 * b[:-1] + b[1:] + 2
    np.testing.assert_array_equal(np.ravel(found), c.reshape(2, 2).mean(1))


def test_any_size_of_image_gives_the_same_features() -> None:
    model = VGGS["vgg11"](3, width=1)
    variables = shapes_of(model, IMAGENET)
    for size in (64, 256):
        x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        assert jax.eval_shape(model.apply, variables, x).shape == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_a_step_lowers_the_loss(name: str) -> None:
    model = VGGS[name](3, width=4, stem="small", dropout=0.0)
    before, after = losses_around_a_step(model, (4, 32, 2), classes=3, lr=0.05)
    assert after < before


def test_dropout_stands_behind_both_dense_layers() -> None:
    model = VGGS["vgg11"](3, width=8, stem="small", dropout=0.5, axis_name="devices")
    layers = {stage.name: [layer.name for layer in stage.module.layers] for stage in model.stages[-3:]}
    assert layers == {"stage6": ["pool", "block"], "stage7": ["dropout", "block"], "head": ["dropout", "dense"]}
    model = VGGS["vgg11"](64, width=8, stem="small", dropout=0.5)
    x = np.ones((2, 64), np.float32)
    variables = {"params": {"head": {"dense": {"kernel": np.eye(64, dtype=np.float32), "bias": np.zeros(64)}}}}
    options: Any = {"after": "stage7", "train": True, "rngs": {"dropout": jax.random.key(0)}}
    dropped = model.apply(variables, x, **options)
    assert set(np.unique(dropped)) == {0, 2}


def test_parts_reach_the_blocks() -> None:
    model = VGGS["vgg11"](3, width=2, norm="group", axis_name="devices", connectivity="local", padding="valid")
    variables = shapes_of(model, jax.ShapeDtypeStruct((1, 200, 1), np.float32))
    assert variables["params"]["stage1"]["block1"]["conv"]["kernel"].shape == (198, 3, 1, 2)
    assert "norm" in drawn_variables(VGGS["vgg11_bn"](2, width=1), (1, 32, 1))["params"]["stage1"]["block1"]
    with pytest.raises(RequestError, match="unknown stem 'smal'; did you mean 'small'"):
        VGGS["vgg16"](10, stem="smal")
