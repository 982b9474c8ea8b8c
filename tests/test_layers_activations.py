"""Each detector against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cnnjax.layers.activations import ACTIVATIONS, NEVER_FALLING

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


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_detector_is_its_formula(name: str) -> None:
    x = np.linspace(-6, 6, 101)
    found = ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, FORMULAS[name](x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gradient_is_the_slope_of_the_formula(name: str) -> None:
    x, step = np.array([-3.0, -0.5, 0.5, 3.0]), 1e-6
    slope = (FORMULAS[name](x + step) - FORMULAS[name](x - step)) / (2 * step)
    found = jax.vmap(jax.grad(ACTIVATIONS[name]))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gradient_is_finite_everywhere(name: str) -> None:
    x = jnp.array([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4])
    found = jax.vmap(jax.value_and_grad(ACTIVATIONS[name]))(x)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_those_that_never_fall(name: str) -> None:
    outputs = FORMULAS[name](np.linspace(-6, 6, 101))
    assert (name in NEVER_FALLING) == bool((np.diff(outputs) >= 0).all())


def test_gelu_is_the_exact_form() -> None:
    """Known values of PyTorch's default; the approximation by tanh gives -0.04543 at -2 and -0.15881 at -1."""
    found = ACTIVATIONS["gelu"](jnp.array([-2.0, -1.0, 1.0, 2.0]))
    np.testing.assert_allclose(found, [-0.04550026, -0.15865525, 0.84134475, 1.95449974], atol=1e-6)


def test_every_detector_of_the_issue_is_there() -> None:
    assert set(ACTIVATIONS) == {"relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "abs", "identity"}
