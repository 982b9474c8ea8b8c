"""AlexNet in both forms, against the published numbers and by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models.alexnet import alexnet
from cnnjax.models.cost import multiply_adds
from cnnjax.models.network import Network, run_stages
from cnnjax.ops.convolution import correlate
from cnnjax.ops.normalisation import local_response
from cnnjax.ops.pooling import max_pool
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables

OUTPUTS = [(27, 27, 64), (13, 13, 192), (13, 13, 384), (13, 13, 256), (6, 6, 256), (4096,), (4096,), (1000,)]
OUTPUTS_2012 = [(27, 27, 96), (13, 13, 256), (13, 13, 384), (13, 13, 384), (6, 6, 256), (4096,), (4096,), (1000,)]


def shapes_of(model: Network, shape: tuple[int, ...]) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, np.float32))


@pytest.mark.parametrize(
    ("form", "size", "parameters", "cost", "outputs"),
    [("one_column", 224, 61_100_840, 0.714, OUTPUTS), ("2012", 227, 60_965_224, 0.724, OUTPUTS_2012)],
)
def test_published_numbers(form: str, size: int, parameters: int, cost: float, outputs: list[tuple[int, ...]]) -> None:
    model, x = alexnet(1000, form=form), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = shapes_of(model, x.shape)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert round(multiply_adds(functools.partial(run_stages, model), variables, x) / 1e9, 3) == cost
    found = [
        jax.eval_shape(functools.partial(run_stages, model, until=stage), variables, x).shape[1:]
        for stage in model.stage_names
    ]
    assert found == outputs


def test_second_stage_of_2012_by_hand() -> None:
    model = alexnet(10, form="2012", width=6)
    x = 9 * np.random.default_rng(0).normal(size=(1, 67, 67, 2)).astype(np.float32)
    variables = drawn_variables(model, x.shape)
    features = jax.jit(functools.partial(run_stages, model, until="stage1"))(variables, x)
    own = variables["params"]["stage2"]["conv"]
    assert own["kernel"].shape == (5, 5, 3, 16)
    columns = [
        correlate(features[..., 3 * g : 3 * g + 3], own["kernel"][..., 8 * g : 8 * g + 8], padding=2) for g in (0, 1)
    ]
    detected = jnp.maximum(jnp.concatenate(columns, -1) + own["bias"], 0)
    expected = max_pool(local_response(detected), 3, strides=2)
    found = run_stages(model, variables, features, after="stage1", until="stage2")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["one_column", "2012"])
def test_a_step_lowers_the_loss(form: str) -> None:
    model = alexnet(3, form=form, width=6, stem="small", dropout=0.0)
    before, after = losses_around_a_step(model, (4, 32, 2), classes=3, lr=0.002)
    assert after < before


def test_a_named_norm_takes_the_place_of_the_forms_own() -> None:
    params = shapes_of(alexnet(10, form="2012", norm="batch", stem="small", width=6), (1, 32, 32, 3))["params"]
    assert all(set(params[f"stage{i}"]) == {"conv", "norm"} for i in range(1, 6))
    stages = alexnet(10, form="2012", norm="none").stages
    assert [stage.module.pool_first for stage in stages[:2]] == [True, True]  # nothing stands before the pool


def test_small_stem_and_width() -> None:
    model, x = alexnet(10, stem="small", width=8), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = shapes_of(model, x.shape)
    params = variables["params"]
    assert params["stage1"]["conv"]["kernel"].shape == (3, 3, 3, 8)
    assert [params[f"stage{i}"]["conv"]["kernel"].shape[-1] for i in range(1, 6)] == [8, 24, 48, 32, 32]
    assert params["stage6"]["block"]["dense"]["kernel"].shape == (3 * 3 * 32, 512)
    outputs = [
        jax.eval_shape(functools.partial(run_stages, model, until=u), variables, x) for u in ("stage1", "stage5")
    ]
    assert [output.shape[1:3] for output in outputs] == [(15, 15), (3, 3)]


def test_dropout_stands_before_both_dense_layers() -> None:
    model = alexnet(10, dropout=0.25, axis_name="devices")
    layers = {stage.name: [layer.name for layer in stage.module.layers] for stage in model.stages[5:7]}
    assert layers == {"stage6": ["pool", "dropout", "block"], "stage7": ["dropout", "block"]}
    dropout = model.stages[6].module.layers[0].module
    assert (dropout.rate, dropout.axis_name) == (0.25, "devices")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"form": "2013"}, "unknown form of alexnet '2013'; did you mean '2012'?"),
        ({"stem": "smal"}, "unknown stem 'smal'; did you mean 'small'?"),
        ({"form": "2012", "width": 7}, "alexnet in two groups needs an even width; given 7"),
        ({"form": "2012", "connectivity": "dense"}, "connectivity 'dense' has no groups; conv and local have"),
    ],
)
def test_wrong_requests(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        alexnet(10, **fields)
    assert str(caught.value) == says
