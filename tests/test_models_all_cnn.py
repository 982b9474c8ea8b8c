"""All-CNN-C against the paper's table."""

import jax
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.layers.initialisers import INITIALISERS
from cnnjax.models.all_cnn import all_cnn_c
from cnnjax.models.description import describe
from cnnjax.models.network import run_stages
from tests.training_step import losses_around_a_step


def test_table_of_the_network() -> None:
    table = describe(all_cnn_c(10), (32, 32, 3)).set_index("stage")
    assert table.output.tolist() == [(16, 16, 96), (8, 8, 192), (6, 6, 192), (10,), (10,)]
    assert table.parameters["total"] == 1_369_738
    assert round(table.multiply_adds["total"] / 1e9, 3) == 0.271


def test_the_head_averages_class_maps() -> None:
    model = all_cnn_c(2, width=1)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    kernel, bias = np.float32([[[1, 2], [0, -1], [0.5, 0], [3, 1]]]), np.float32([0.25, -1])
    found = run_stages(model, {"params": {"head": {"conv": {"kernel": kernel, "bias": bias}}}}, x, after="stage3")
    np.testing.assert_allclose(found, x.mean(1) @ kernel[0] + bias, rtol=1e-4, atol=1e-5)


def test_dropout_of_the_input_and_behind_each_stride() -> None:
    model = all_cnn_c(10, axis_name="devices")
    first = [stage.module.layers[0] for stage in model.stages[:3]]
    assert [layer.name for layer in first] == ["dropout"] * 3
    assert [layer.module.rate for layer in first] == [0.2, 0.5, 0.5]
    assert {layer.module.axis_name for layer in first} == {"devices"}


@pytest.mark.slow
def test_a_step_lowers_the_loss() -> None:
    model = all_cnn_c(3, width=4, dropout=0.0)
    before, after = losses_around_a_step(model, (4, 16, 2), classes=3, lr=0.05)
    assert after < before


def test_parts_reach_the_blocks() -> None:
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    variables = jax.eval_shape(all_cnn_c(10, width=2, norm="batch", padding="circular").init, jax.random.key(0), x)
    assert set(variables["params"]["stage1"]["block2"]) == {"conv", "norm"}
    assert set(variables["params"]["stage1"]["block2"]["conv"]) == {"kernel"}
    with pytest.raises(RequestError, match="unknown norm 'bach'; did you mean 'batch'"):
        all_cnn_c(10, norm="bach")


def test_the_heads_convolution_is_of_the_same_kind_as_the_others() -> None:
    assert all_cnn_c(10, init="orthogonal").stages[-1].module.layers[0].module.kernel_init is INITIALISERS["orthogonal"]
    x = jax.ShapeDtypeStruct((1, 32, 1), np.float32)
    variables = jax.eval_shape(all_cnn_c(10, width=2, norm="batch", connectivity="local").init, jax.random.key(0), x)
    assert variables["params"]["head"]["conv"]["kernel"].shape == (6, 1, 4, 10)
    assert variables["params"]["head"]["conv"]["bias"].shape == (6, 10)
