"""Jarrett's stages: their order, what can be left out, and sizes."""

import jax
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models import describe
from cnnjax.models.jarrett import jarrett
from cnnjax.models.network import run_stages
from cnnjax.ops.convolution import correlate
from cnnjax.ops.normalisation import local_contrast
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables


def pooled(x: np.ndarray, kind: str) -> np.ndarray:
    """Windows of 2 x 2."""
    split = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1)
    return split.mean((2, 4)) if kind == "average" else split.max((2, 4))


@pytest.mark.parametrize("act", ["abs_tanh", "tanh"])
@pytest.mark.parametrize("norm", ["local_contrast", pytest.param("none", marks=pytest.mark.slow)])
def test_convolution_squashing_rectification_normalisation_pooling(act: str, norm: str) -> None:
    pool = "max" if act == "tanh" else "average"
    model = jarrett(3, width=2, depth=1, kernel_size=3, pool=pool, norm=norm, act=act)
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 1)).astype(np.float32)
    variables = drawn_variables(model, x.shape)
    conv = variables["params"]["stage1"]["conv"]
    expected = np.tanh(correlate(x, conv["kernel"], padding="same") + conv["bias"])
    expected = np.abs(expected) if act == "abs_tanh" else expected
    expected = np.asarray(local_contrast(expected)) if norm == "local_contrast" else expected
    found = jax.jit(lambda x: run_stages(model, variables, x, until="stage1"))(x)
    np.testing.assert_allclose(found, pooled(expected, pool), rtol=1e-4, atol=1e-5)


def test_sizes_on_28_by_28() -> None:
    table = describe(jarrett(10), (28, 28, 1)).set_index("stage")
    assert table.output.tolist() == [(14, 14, 16), (7, 7, 64), (10,), (10,)]
    assert table.parameters["total"] == (25 * 16 + 16) + (25 * 16 * 64 + 64) + (49 * 64 * 10 + 10)
    assert table.multiply_adds["total"] == 28**2 * 25 * 16 + 14**2 * 25 * 16 * 64 + 49 * 64 * 10


def test_a_norm_with_a_bias_stands_behind_the_detector_and_spares_the_convolutions_own() -> None:
    model = jarrett(3, width=2, depth=2, norm="batch", axis_name="devices", dropout=0.5)
    variables = drawn_variables(model, (1, 8, 1))
    assert {name: set(layer) for name, layer in variables["params"]["stage2"].items()} == {
        "conv": {"kernel", "bias"},
        "norm": {"scale", "bias"},
    }
    assert variables["params"]["stage2"]["norm"]["scale"].shape == (8,)
    assert [layer.name for layer in model.stages[0].module.layers] == ["conv", "detector", "norm", "pool"]
    assert model.stages[0].module.layers[2].module.axis_name == "devices"
    assert model.stages[-1].module.layers[0].module.rate == 0.5


def test_unknown_detector_names_the_nearest() -> None:
    with pytest.raises(RequestError) as caught:
        jarrett(3, act="abs_tan")
    assert str(caught.value) == "unknown act 'abs_tan'; did you mean 'abs_tanh'?"


def test_a_step_lowers_the_loss() -> None:
    before, after = losses_around_a_step(jarrett(3, width=2, depth=1, kernel_size=3), (6, 8, 1), classes=3, lr=0.02)
    assert after < before
