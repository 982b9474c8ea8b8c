"""Auxiliary heads leave their logits in training, and do not exist for the rest."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.layers.auxiliary import AUXILIARY_LOGITS, AuxiliaryHead
from cnnjax.layers.dense import Dense
from cnnjax.models.cost import multiply_adds
from tests.variables import drawn_variables

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
LAYER = AuxiliaryHead(Dense(2))
VARIABLES = drawn_variables(LAYER, X.shape)


def test_the_input_passes() -> None:
    for train in (False, True):
        np.testing.assert_array_equal(LAYER.apply(VARIABLES, X, train=train), X)


def test_training_leaves_the_logits() -> None:
    _, left = LAYER.apply(VARIABLES, X, train=True, mutable=[AUXILIARY_LOGITS])
    own = VARIABLES["params"]["head"]
    (logits,) = jax.tree.leaves(left)
    np.testing.assert_allclose(logits, X @ own["kernel"] + own["bias"], rtol=1e-5)


def test_evaluation_does_not_run_the_head() -> None:
    _, left = LAYER.apply(VARIABLES, X, mutable=[AUXILIARY_LOGITS])
    assert not jax.tree.leaves(left)
    assert multiply_adds(LAYER.apply, VARIABLES, jnp.asarray(X)) == 0


def test_initialising_makes_parameters_and_no_logits() -> None:
    for train in (False, True):
        variables = jax.eval_shape(lambda key, train=train: LAYER.init(key, X, train=train), jax.random.key(0))
        assert set(variables) == {"params"}
        assert variables["params"]["head"]["kernel"].shape == (4, 2)
