"""Coates's network against explicit loops over patches and quadrants."""

import jax
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models import describe
from cnnjax.models.coates import coates
from cnnjax.models.network import run_stages
from cnnjax.ops.coding import CONTRAST_EPSILON
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables


def test_quadrants_of_triangle_codes() -> None:
    model = coates(3, width=4, kernel_size=3)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 1)).astype(np.float32)
    variables = drawn_variables(model, x.shape)
    kernel, bias = (variables["params"]["whiten"][name] for name in ("kernel", "bias"))
    centroids = variables["params"]["code"]["centroids"]
    codes = np.zeros((2, 4, 4, 4))
    for n, i, j in np.ndindex(2, 4, 4):
        patch = x[n, i : i + 3, j : j + 3].ravel()
        patch = (patch - patch.mean()) / np.sqrt(patch.var() + CONTRAST_EPSILON)
        z = np.linalg.norm((patch @ kernel.reshape(9, 9) + bias)[:, None] - centroids, axis=0)
        codes[n, i, j] = np.maximum(0, z.mean() - z)
    expected = codes.reshape(2, 2, 2, 2, 2, 4).mean((2, 4))
    found = jax.jit(lambda x: run_stages(model, variables, x, until="pool"))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("act", ["triangle", "hard", "soft_threshold"])
def test_sizes_on_28_by_28(act: str) -> None:
    table = describe(coates(10, act=act), (28, 28, 1)).set_index("stage")
    assert table.output.tolist() == [(23, 23, 36), (23, 23, 100), (2, 2, 100), (10,), (10,)]
    assert table.receptive_field["code"] == (6, 6)
    assert table.parameters["total"] == (36 * 36 + 36) + 36 * 100 + (4 * 100 * 10 + 10)
    assert table.multiply_adds["total"] == 23**2 * 36 * (36 + 100) + 4 * 100 * 10


@pytest.mark.parametrize(("spatial", "regions"), [((9,), (2,)), ((4, 5, 4), (2, 2, 2))])
def test_other_numbers_of_dimensions(spatial: tuple[int, ...], regions: tuple[int, ...]) -> None:
    table = describe(coates(3, width=5, kernel_size=2), (*spatial, 2)).set_index("stage")
    assert table.output["pool"] == (*regions, 5)
    assert table.parameters["code"] == 2 ** len(spatial) * 2 * 5


def test_unknown_code_names_the_others() -> None:
    with pytest.raises(RequestError) as caught:
        coates(3, act="relu")
    assert str(caught.value) == "unknown act 'relu'; there are: hard, soft_threshold, triangle"


def test_a_step_lowers_the_loss() -> None:
    before, after = losses_around_a_step(coates(3, width=4, kernel_size=3), (6, 12, 1), classes=3, lr=0.05)
    assert after < before
