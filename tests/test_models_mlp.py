"""The dense baseline of MNIST-1D."""

import jax
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models.mlp import mlp
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables


def test_it_has_15210_parameters() -> None:
    variables = jax.eval_shape(mlp(10).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 40, 1), np.float32))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 15_210


def test_the_second_layer_is_added_to_the_first() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    model = mlp(5, width=6, act="tanh")
    variables = drawn_variables(model, x.shape)
    layers = {name: jax.tree.leaves(params) for name, params in variables["params"].items()}
    h = np.tanh(x.reshape(3, 8) @ layers["stage1"][1] + layers["stage1"][0])
    h = h + np.tanh(h @ layers["stage2"][1] + layers["stage2"][0])
    expected = h @ layers["head"][1] + layers["head"][0]
    np.testing.assert_allclose(model.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


def test_a_step_lowers_the_loss() -> None:
    before, after = losses_around_a_step(mlp(3, width=8), (6, 10, 1), classes=3, lr=0.05)
    assert after < before


def test_unknown_detector() -> None:
    with pytest.raises(RequestError, match="unknown act 'rellu'; did you mean 'relu'"):
        mlp(10, act="rellu")


def test_a_norm_stands_between_dense_layer_and_detector() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    model = mlp(3, width=6, norm="batch", axis_name="devices")
    variables = drawn_variables(model, x.shape)
    assert set(variables["params"]["stage2"]["branch"]) == {"dense", "norm"}
    own, params = variables["batch_stats"]["stage1"]["norm"], variables["params"]["stage1"]
    h = x @ params["dense"]["kernel"] + params["dense"]["bias"]
    h = params["norm"]["scale"] * (h - own["mean"]) / np.sqrt(own["var"] + 1e-5) + params["norm"]["bias"]
    found = model.apply(variables, x, until="stage1")
    np.testing.assert_allclose(found, np.maximum(h, 0), rtol=1e-4, atol=1e-5)
    with pytest.raises(RequestError, match="norm 'local_contrast' needs a grid"):
        mlp(3, norm="local_contrast")
