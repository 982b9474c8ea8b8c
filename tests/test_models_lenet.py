"""LeNet-1 and LeNet-5 against the numbers of the papers."""

from typing import Any

import jax
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models.lenet import lenet1, lenet5
from cnnjax.models.network import Network, run_stages
from tests.training_step import losses_around_a_step

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


def test_lenet1_takes_a_norm_and_other_connectivities() -> None:
    x = jax.ShapeDtypeStruct((1, 16, 16, 1), np.float32)
    sizes = {}
    for fields in ({}, {"norm": "batch"}, {"connectivity": "local"}, {"connectivity": "separable"}):
        params = jax.eval_shape(lenet1(10, **fields).init, jax.random.key(0), x)["params"]
        sizes[str(fields)] = {stage: sum(leaf.size for leaf in jax.tree.leaves(params[stage])) for stage in params}
    paper, normed, local, separable = sizes.values()
    units = {"stage1": 64 * 12, "stage2": 16 * 12}  # each has a bias
    assert normed == paper | {stage: paper[stage] + 2 * 12 for stage in units}
    assert local["stage2"] == 16 * 25 * 12 * 12 + units["stage2"]  # all maps of H1
    assert separable["stage2"] == 25 * 12 + 12 * 12 + units["stage2"]


@pytest.mark.parametrize(("padding", "size"), [("same", 28), ("valid", 32)])
def test_the_original_has_60000_parameters(padding: str, size: int) -> None:
    x = jax.ShapeDtypeStruct((1, size, size, 1), np.float32)
    params = jax.eval_shape(lenet5(10, form="original", padding=padding).init, jax.random.key(0), x)["params"]
    found = {stage: sum(leaf.size for leaf in jax.tree.leaves(params[stage])) for stage in params}
    assert found == {"stage1": 156 + 12, "stage2": 1_516 + 32, "stage3": 48_120, "stage4": 10_164}
    assert sum(found.values()) == 60_000


def test_the_modern_one_on_the_papers_32_x_32() -> None:
    x = jax.ShapeDtypeStruct((1, 32, 32, 1), np.float32)
    params = jax.eval_shape(lenet5(10, padding="valid").init, jax.random.key(0), x)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 61_706


def test_lenet1_has_9760_parameters() -> None:
    x = jax.ShapeDtypeStruct((1, 16, 16, 1), np.float32)
    params = jax.eval_shape(lenet1(10).init, jax.random.key(0), x)["params"]
    found = {stage: sum(leaf.size for leaf in jax.tree.leaves(params[stage])) for stage in params}
    assert found == {"stage1": 1_068, "stage2": 2_592, "stage3": 5_790, "head": 310}
    assert params["stage1"]["conv"]["bias"].shape == (8, 8, 12)
    assert params["stage2"]["conv"]["layer"]["from8"]["kernel"].shape == (5, 5, 8, 12)


def test_squashing_of_the_original_and_another_detector() -> None:
    x = np.full((1, 28, 28, 1), 3, np.float32)
    kernel = np.zeros((5, 5, 1, 6), np.float32)
    kernel[2, 2] = 1.0
    pool = {"scale": np.full(6, 0.125, np.float32), "bias": np.full(6, 0.25, np.float32)}
    stage1 = {"conv": {"kernel": kernel, "bias": np.zeros(6, np.float32)}, "pool": pool}

    def first_stage(**fields: str) -> np.ndarray:
        model = lenet5(10, form="original", **fields)
        return np.unique(np.asarray(run_stages(model, {"params": {"stage1": stage1}}, x, until="stage1")))

    squashed = 1.7159 * np.tanh(2 * 3 / 3)
    np.testing.assert_allclose(first_stage(), 1.7159 * np.tanh(2 / 3 * (0.5 * squashed + 0.25)), rtol=1e-5)
    np.testing.assert_allclose(first_stage(act="identity"), 0.5 * 3 + 0.25, rtol=1e-5)
    np.testing.assert_allclose(first_stage(pool="max"), squashed, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "shape", "lr"),
    [
        (lenet1(3, width=3), (6, 16, 1), 0.05),
        pytest.param(lenet5(3, width=3), (6, 16, 1), 0.01, marks=pytest.mark.slow),
        pytest.param(lenet5(3, form="original"), (6, 28, 1), 1e-4, marks=pytest.mark.slow),
    ],
)
def test_a_step_lowers_the_loss(model: Network, shape: tuple[int, ...], lr: float) -> None:
    before, after = losses_around_a_step(model, shape, classes=3, lr=lr)
    assert after < before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"form": "orginal"}, "unknown form of lenet5 'orginal'; did you mean 'original'?"),
        ({"act": "rellu"}, "unknown act 'rellu'; did you mean 'relu'?"),
        ({"form": "original", "width": 12}, "the original lenet5 has width 6, not 12; the form modern takes others"),
        (
            {"form": "original", "norm": "batch"},
            "the original lenet5 has norm none, not batch; the form modern takes others",
        ),
    ],
)
def test_wrong_requests(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        lenet5(10, **fields)
    assert str(caught.value) == says
