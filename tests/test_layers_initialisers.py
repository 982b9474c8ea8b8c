"""The scale of each initialiser, against the law that it is named for."""

import jax
import numpy as np
import pytest

from cnnjax.layers.initialisers import INITIALISERS

SHAPE = (3, 3, 16, 48)
FAN_IN, FAN_OUT = 3 * 3 * 16, 3 * 3 * 48


@pytest.mark.parametrize(
    ("name", "variance"),
    [("glorot", 2 / (FAN_IN + FAN_OUT)), ("he", 2 / FAN_IN), ("lecun", 1 / FAN_IN)],
)
def test_variance(name: str, variance: float) -> None:
    kernel = np.asarray(INITIALISERS[name](jax.random.key(0), SHAPE))
    standard_error = np.sqrt(2 / kernel.size)  # of a normal variance, as a share; uniform and truncated have less
    np.testing.assert_allclose(kernel.var(), variance, rtol=5 * standard_error)
    np.testing.assert_allclose(kernel.mean(), 0, atol=5 * np.sqrt(variance / kernel.size))


def test_orthogonal_filters_are_orthonormal() -> None:
    matrix = np.asarray(INITIALISERS["orthogonal"](jax.random.key(0), SHAPE)).reshape(FAN_IN, -1)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(48), atol=1e-5)


def test_every_initialiser_has_a_test() -> None:
    assert set(INITIALISERS) == {"glorot", "he", "lecun", "orthogonal"}
