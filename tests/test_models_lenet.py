"""LeNet-5 against the numbers of the paper."""

import jax
import numpy as np
import pytest

from cnnjax.models.lenet import lenet5
from cnnjax.models.network import run_stages

PARAMETERS = {  # (inputs * maps + biases); the paper's C3 is sparse, the modern one full
    "stage1": 5 * 5 * 1 * 6 + 6,
    "stage2": 5 * 5 * 6 * 16 + 16,
    "stage3": 400 * 120 + 120,
    "stage4": 120 * 84 + 84,
    "head": 84 * 10 + 10,
}
OUTPUTS = {"stage1": (14, 14, 6), "stage2": (5, 5, 16), "stage3": (120,), "stage4": (84,), "head": (10,)}
X = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)


def test_it_has_61706_parameters() -> None:
    params = jax.eval_shape(lenet5(10).init, jax.random.key(0), X)["params"]
    found = {stage: sum(leaf.size for leaf in jax.tree.leaves(params[stage])) for stage in params}
    assert found == PARAMETERS
    assert sum(found.values()) == 61_706


@pytest.mark.parametrize("stage", OUTPUTS)
def test_output_of_each_stage(stage: str) -> None:
    model = lenet5(10)
    variables = jax.eval_shape(model.init, jax.random.key(0), X)
    found = jax.eval_shape(lambda v, x: run_stages(model, v, x, until=stage), variables, X)
    assert found.shape == (1, *OUTPUTS[stage])


def test_options_reach_the_blocks() -> None:
    x = np.arange(28 * 28, dtype=np.float32).reshape(1, 28, 28, 1) / 784
    kernel = np.zeros((5, 5, 1, 6), np.float32)
    kernel[2, 2] = -1.0
    variables = {"params": {"stage1": {"conv": {"kernel": kernel, "bias": np.zeros(6, np.float32)}}}}

    def first_stage(pool: str, act: str) -> np.ndarray:
        return np.asarray(run_stages(lenet5(10, pool=pool, act=act), variables, x, until="stage1"))

    squares = x.reshape(1, 14, 2, 14, 2, 1)
    np.testing.assert_array_equal(first_stage("max", "relu"), np.zeros((1, 14, 14, 6)))
    np.testing.assert_allclose(first_stage("max", "abs"), np.tile(squares.max((2, 4)), 6), rtol=1e-5)
    np.testing.assert_allclose(first_stage("average", "identity"), np.tile(-squares.mean((2, 4)), 6), rtol=1e-5)
