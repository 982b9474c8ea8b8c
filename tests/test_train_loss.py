"""The loss against its formula in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.train.loss import cross_entropy, training_loss

LOGITS = np.random.default_rng(0).normal(0, 3, (6, 4))
LABELS = np.array([0, 1, 2, 3, 0, 2])


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))


def test_loss_is_minus_the_log_probability_of_the_label() -> None:
    loss = cross_entropy(jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS))
    np.testing.assert_allclose(loss, -log_probabilities(LOGITS)[np.arange(6), LABELS], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_spreads_a_share_of_the_target_over_all_classes(smoothing: float) -> None:
    targets = np.full((6, 4), smoothing / 4)
    targets[np.arange(6), LABELS] += 1 - smoothing
    loss = cross_entropy(jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS), smoothing)
    np.testing.assert_allclose(loss, -(targets * log_probabilities(LOGITS)).sum(1), rtol=1e-5)


def test_guessing_costs_the_logarithm_of_the_classes() -> None:
    loss = cross_entropy(jnp.zeros((2, 10)), jnp.array([3, 9]), 0.2)
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-6)


def test_large_logits_stay_finite() -> None:
    loss = cross_entropy(jnp.array([[1e4, 0.0], [0.0, 1e4]]), jnp.array([0, 0]))
    np.testing.assert_allclose(loss, [0, 1e4])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_auxiliary_heads_count_three_tenths_each(smoothing: float) -> None:
    heads = [jnp.asarray(LOGITS * scale, jnp.float32) for scale in (1, 2, -1)]
    own, first, second = (np.asarray(cross_entropy(head, jnp.asarray(LABELS), smoothing)) for head in heads)
    found = training_loss(heads[0], heads[1:], jnp.asarray(LABELS), smoothing)
    np.testing.assert_allclose(found, own + 0.3 * first + 0.3 * second, rtol=1e-5)
    np.testing.assert_array_equal(training_loss(heads[0], [], jnp.asarray(LABELS), smoothing), own)
