"""Logistic regression is linear in the raw input, and its loss is the textbook's."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.logistic import logistic
from tests.training_step import losses_around_a_step
from tests.variables import drawn_variables

X = np.random.default_rng(0).normal(size=(6, 4, 3, 2)).astype(np.float32)


def test_logits_are_one_matrix_of_the_flattened_input() -> None:
    model = logistic(5)
    assert model.stage_names == ("head",)
    variables = drawn_variables(model, X.shape)
    head = variables["params"]["head"]
    expected = X.reshape(6, -1) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(model.apply(variables, X), expected, rtol=1e-4, atol=1e-5)


def test_gradient_of_the_loss_is_the_textbooks() -> None:
    model, labels = logistic(5), np.arange(6) % 5
    variables = drawn_variables(model, X.shape)

    def loss(variables: dict[str, object]) -> jax.Array:
        return -jax.nn.log_softmax(model.apply(variables, X))[jnp.arange(6), labels].mean()

    found = jax.jit(jax.grad(loss))(variables)["params"]["head"]["kernel"]
    head, flat = variables["params"]["head"], X.reshape(6, -1)
    exponentials = np.exp(flat @ head["kernel"] + head["bias"])
    error = exponentials / exponentials.sum(1, keepdims=True) - np.eye(5)[labels]
    np.testing.assert_allclose(found, flat.T @ error / 6, rtol=1e-4, atol=1e-5)


def test_a_training_step_lowers_the_loss() -> None:
    before, after = losses_around_a_step(logistic(3), (6, 8, 1), classes=3)
    assert after < before
