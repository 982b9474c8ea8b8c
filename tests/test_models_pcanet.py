"""PCANet against explicit loops over maps and blocks, its sizes, and its frozen filters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from cnnjax.config import RequestError
from cnnjax.models import describe
from cnnjax.models.network import run_stages
from cnnjax.models.pcanet import pcanet
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables


def test_histograms_of_two_stages() -> None:
    model = pcanet(3, width=2, kernel_size=3, pool_size=3)
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 1)).astype(np.float32)
    variables = drawn_variables(model, x.shape)
    first, second = variables["params"]["stage1"], variables["params"]["stage2"]["layer"]
    assert second["kernel"].shape == (3, 3, 1, 2)
    expected = np.zeros((2, 2, 2, 2 * 4))
    for n, m in np.ndindex(2, 2):
        of_map = correlate2d(x[n, ..., 0], first["kernel"][..., 0, m], mode="same") + first["bias"][m]
        bits = [correlate2d(of_map, second["kernel"][..., 0, b], mode="same") + second["bias"][b] > 0 for b in range(2)]
        numbers = bits[0] + 2 * bits[1]
        for i, j in np.ndindex(2, 2):
            block = numbers[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            expected[n, i, j, 4 * m : 4 * m + 4] = np.bincount(block.ravel(), minlength=4) / 9
    found = jax.jit(lambda x: run_stages(model, variables, x, until="hash"))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_sizes_on_28_by_28() -> None:
    table = describe(pcanet(10), (28, 28, 1)).set_index("stage")
    assert table.output.tolist() == [(28, 28, 8), (28, 28, 64), (6, 6, 8 * 256), (10,), (10,)]
    features = 36 * 8 * 256
    assert table.parameters["total"] == 2 * (49 * 8 + 8) + features * 10 + 10
    assert table.multiply_adds["total"] == 28**2 * 49 * 8 * (1 + 8) + features * 10


@pytest.mark.parametrize(("spatial", "blocks"), [((12,), (2,)), ((8, 9, 7), (1, 1, 1))])
def test_other_numbers_of_dimensions(spatial: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    table = describe(pcanet(3, width=2, kernel_size=3), (*spatial, 3)).set_index("stage")
    assert table.output["hash"] == (*blocks, 2 * 4)


def test_too_many_filters_are_refused() -> None:
    with pytest.raises(RequestError) as caught:
        pcanet(3, width=16)
    assert str(caught.value) == "pcanet has at most 12 filters, for 2^width bins; given width 16"


def test_no_gradient_reaches_the_filters() -> None:
    model = pcanet(3, width=2, kernel_size=3, pool_size=3)
    variables = drawn_variables(model, (2, 9, 1))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 1)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda params: (model.apply({"params": params}, x) ** 2).sum()))(variables["params"])
    for stage in ("stage1", "stage2"):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient[stage]))
    assert np.abs(gradient["head"]["kernel"]).max() > 0


def test_a_step_lowers_the_loss() -> None:
    model = pcanet(3, width=2, kernel_size=3, pool_size=3)
    before, after = losses_around_a_step(model, (6, 9, 1), classes=3, lr=0.1)
    assert after < before
