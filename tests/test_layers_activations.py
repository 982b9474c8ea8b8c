"""Each detector against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.layers.activations import ACTIVATIONS

FORMULAS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "abs": lambda x: np.sqrt(x**2),
    "identity": lambda x: x,
}
APPROXIMATION = {"gelu": 5e-4}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_detector_is_its_formula(name: str) -> None:
    x = np.linspace(-6, 6, 101)
    found = ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, FORMULAS[name](x), rtol=1e-5, atol=APPROXIMATION.get(name, 1e-6))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gradient_is_the_slope_of_the_formula(name: str) -> None:
    x, step = np.array([-3.0, -0.5, 0.5, 3.0]), 1e-6
    slope = (FORMULAS[name](x + step) - FORMULAS[name](x - step)) / (2 * step)
    found = jax.vmap(jax.grad(ACTIVATIONS[name]))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=4 * APPROXIMATION.get(name, 1e-6))
