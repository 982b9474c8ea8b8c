"""The recurrent baseline of MNIST-1D."""

import jax
import numpy as np
import pytest

from cnnjax.config import RequestError
from cnnjax.models.gru import gru
from tests.training_step import losses_around_a_step


def test_it_has_5134_parameters() -> None:
    params = jax.eval_shape(gru(10).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 40, 1), np.float32))["params"]
    found = {stage: sum(leaf.size for leaf in jax.tree.leaves(params[stage])) for stage in params}
    assert found == {"stage1": 2 * (18 + 108 + 18 + 18), "head": 4_810}
    assert sum(found.values()) == 5_134


@pytest.mark.slow
def test_a_step_lowers_the_loss() -> None:
    before, after = losses_around_a_step(gru(3, width=2), (6, 8, 1), classes=3, lr=0.05)
    assert after < before


def test_unknown_initialiser() -> None:
    with pytest.raises(RequestError, match="unknown init 'torhc'; did you mean 'torch'"):
        gru(10, init="torhc")
