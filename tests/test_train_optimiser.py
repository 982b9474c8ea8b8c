"""Schedules and update rules against their formulas, written out in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Config, OptimConfig
from cnnjax.train.hyperparameters import hyperparameters
from cnnjax.train.optimiser import learning_rate, make_optimiser

Arrays = dict[str, np.ndarray]

RNG = np.random.default_rng(0)
START: Arrays = {"head/kernel": RNG.normal(size=(3, 2)), "head/bias": RNG.normal(size=2)}
GRADIENTS: list[Arrays] = [{path: RNG.normal(size=a.shape) for path, a in START.items()} for _ in range(3)]
NO_GRADIENT: Arrays = {path: np.zeros_like(a) for path, a in START.items()}


def rates(steps: int, **fields: object) -> np.ndarray:
    config = OptimConfig(**fields)
    numbers = hyperparameters(Config(optim=config), steps)
    return np.array([float(learning_rate(config, numbers, jnp.int32(step))) for step in range(steps + 1)])


def updated(config: OptimConfig, gradients: list[Arrays]) -> Arrays:
    """The parameters after a step with each gradient, from `START`."""
    optimiser = make_optimiser(config, hyperparameters(Config(optim=config), 100))
    params = {path: jnp.asarray(a, jnp.float32) for path, a in START.items()}
    state = optimiser.init(params)
    for gradient in gradients:
        updates, state = optimiser.update({p: jnp.asarray(g, jnp.float32) for p, g in gradient.items()}, state, params)
        params = {path: params[path] + updates[path] for path in params}
    return {path: np.asarray(a) for path, a in params.items()}


def assert_close(found: Arrays, expected: Arrays) -> None:
    for path, array in expected.items():
        np.testing.assert_allclose(found[path], array, rtol=1e-4, atol=1e-6, err_msg=path)


def test_constant_schedule() -> None:
    np.testing.assert_allclose(rates(20, lr=0.3, schedule="constant"), 0.3, rtol=1e-6)


def test_cosine_schedule_falls_to_zero() -> None:
    expected = 0.3 * (1 + np.cos(np.pi * np.arange(21) / 20)) / 2
    np.testing.assert_allclose(rates(20, lr=0.3, schedule="cosine"), expected, rtol=1e-5, atol=1e-8)


def test_step_schedule_falls_at_its_shares() -> None:
    found = rates(20, lr=0.3, schedule="step", step_at=(0.25, 0.5, 0.9), step_factor=0.2)
    factors = np.array([1] * 5 + [0.2] * 5 + [0.04] * 8 + [0.008] * 3)
    np.testing.assert_allclose(found, 0.3 * factors, rtol=1e-5)


def test_step_schedule_of_few_steps_takes_every_factor() -> None:
    found = rates(10, lr=1.0, schedule="step", step_at=(0.48, 0.52), step_factor=0.1)
    np.testing.assert_allclose(found, [1.0] * 5 + [0.01] * 6, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warmup_rises_from_zero_and_hands_over(schedule: str) -> None:
    found = rates(100, lr=0.5, schedule=schedule, warmup=0.1, step_at=(0.5, 0.75), step_factor=0.1)
    step = np.arange(101)
    after = {
        "constant": np.ones(101),
        "cosine": (1 + np.cos(np.pi * (step - 10) / 90)) / 2,
        "step": np.where(step < 50, 1, np.where(step < 75, 0.1, 0.01)),
    }[schedule]
    np.testing.assert_allclose(found, 0.5 * np.where(step < 10, step / 10, after), rtol=1e-5, atol=1e-8)


def test_sgd_is_gradient_descent_without_momentum() -> None:
    config = OptimConfig(name="sgd", lr=0.1, momentum=0.0, schedule="constant")
    found = updated(config, GRADIENTS)
    assert_close(found, {p: a - 0.1 * sum(g[p] for g in GRADIENTS) for p, a in START.items()})


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_momentum(nesterov: bool) -> None:
    config = OptimConfig(name="sgd", lr=0.1, momentum=0.8, nesterov=nesterov, schedule="constant")
    expected = {}
    for path, p in START.items():
        velocity = np.zeros_like(p)
        for g in (gradient[path] for gradient in GRADIENTS):
            velocity = 0.8 * velocity + g
            p = p - 0.1 * (g + 0.8 * velocity if nesterov else velocity)
        expected[path] = p
    assert_close(updated(config, GRADIENTS), expected)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_takes_decay_into_the_gradient_and_adamw_apart(name: str) -> None:
    config = OptimConfig(name=name, lr=0.1, weight_decay=0.3, schedule="constant")
    expected = {}
    for path, p in START.items():
        decay = 0.3 if path == "head/kernel" else 0.0
        first, second = np.zeros_like(p), np.zeros_like(p)
        for t, g in enumerate((gradient[path] for gradient in GRADIENTS), 1):
            g = g + decay * p if name == "adam" else g
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            p = p - 0.1 * (step + (decay * p if name == "adamw" else 0))
        expected[path] = p
    assert_close(updated(config, GRADIENTS), expected)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_spares_biases(name: str) -> None:
    config = OptimConfig(name=name, lr=0.1, momentum=0.0, weight_decay=0.25, schedule="constant")
    found = updated(config, [NO_GRADIENT])
    assert_close(found, {"head/kernel": (1 - 0.1 * 0.25) * START["head/kernel"]})
    np.testing.assert_array_equal(found["head/bias"], START["head/bias"].astype(np.float32))


def test_adam_with_decay_spares_biases() -> None:
    config = OptimConfig(name="adam", lr=0.1, weight_decay=0.25, schedule="constant")
    found = updated(config, [NO_GRADIENT])
    assert_close(found, {"head/kernel": START["head/kernel"] - 0.1 * np.sign(START["head/kernel"])})
    np.testing.assert_array_equal(found["head/bias"], START["head/bias"].astype(np.float32))


@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_clip_bounds_the_norm_of_the_whole_gradient_before_decay(bound: float) -> None:
    config = OptimConfig(name="sgd", lr=0.1, momentum=0.0, clip=bound, weight_decay=0.2, schedule="constant")
    gradient = GRADIENTS[0]
    norm = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
    factor = min(1, bound / norm)
    decay = {"head/kernel": 0.2, "head/bias": 0.0}
    expected = {p: a - 0.1 * (factor * gradient[p] + decay[p] * a) for p, a in START.items()}
    assert_close(updated(config, [gradient]), expected)


def test_rate_follows_the_schedule_from_the_first_step_on() -> None:
    config = OptimConfig(name="sgd", lr=1.0, momentum=0.0, schedule="constant", warmup=0.04)
    steps = 0.0 + 0.25 + 0.5  # of a warm-up of four steps
    assert_close(updated(config, [GRADIENTS[0]] * 3), {p: a - steps * GRADIENTS[0][p] for p, a in START.items()})
