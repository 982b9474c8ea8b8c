"""A step with auxiliary heads against the gradient of softmax in NumPy."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import Config, OptimConfig
from cnnjax.data.augmentation import Augmentation
from cnnjax.data.feed import Feed
from cnnjax.filters.plan import Flat, flatten
from cnnjax.layers.auxiliary import AuxiliaryHead
from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage
from cnnjax.train.hyperparameters import hyperparameters
from cnnjax.train.optimiser import make_optimiser
from cnnjax.train.state import initial_state
from cnnjax.train.step import Inputs, Keys, Task, evaluate_batch, train_step
from tests.variables import drawn_variables

IMAGES = np.random.default_rng(0).integers(0, 4, (6, 5)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0], np.int32)
MODEL = Network((Stage("stage1", AuxiliaryHead(Dense(3))), Stage("head", Dense(3))))
PARAMS: Flat = flatten(drawn_variables(MODEL, (1, 5))["params"])
OWN, AUXILIARY = "head", "stage1/head"


def task(frozen_modules: frozenset[str] = frozenset(), label_smoothing: float = 0.0) -> Task:
    return Task(
        axis=None,
        model=MODEL,
        frozen_modules=frozen_modules,
        after=None,
        optim=OptimConfig(lr=1.0, momentum=0.0, schedule="constant", label_smoothing=label_smoothing),
        batch_size=6,
        eval_batch_size=6,
        mean=(0.0,),
        std=(1.0,),
        augmentation=Augmentation(),
    )


def step(task: Task, trained: Flat, frozen: Flat) -> Any:
    keys = Keys(*(jax.random.key(i) for i in range(3)))
    numbers = hyperparameters(Config(optim=task.optim), 1)
    state = initial_state(trained, {}, make_optimiser(task.optim, numbers))
    feed = Feed(jnp.asarray(IMAGES), jnp.asarray(LABELS))
    inputs = Inputs((frozen, {}), feed, feed, keys, numbers)
    return jax.jit(lambda: train_step(task, state, inputs, 0, jnp.arange(6)))()


def by_hand(layer: str, smoothing: float) -> tuple[float, np.ndarray]:
    """The mean loss of one head and its gradient with respect to the kernel."""
    logits = IMAGES @ PARAMS[f"{layer}/kernel"] + PARAMS[f"{layer}/bias"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = (1 - smoothing) * np.eye(3)[LABELS] + smoothing / 3
    return -(targets * log_p).sum(1).mean(), IMAGES.T @ (np.exp(log_p) - targets) / 6


@pytest.mark.parametrize("smoothing", [pytest.param(0.0, marks=pytest.mark.slow), 0.2])
def test_auxiliary_losses_count_three_tenths(smoothing: float) -> None:
    state = step(task(label_smoothing=smoothing), PARAMS, {})
    losses = {}
    for layer, weight in ((OWN, 1.0), (AUXILIARY, 0.3)):
        losses[layer], gradient = by_hand(layer, smoothing)
        moved = PARAMS[f"{layer}/kernel"] - state.trained[f"{layer}/kernel"]
        np.testing.assert_allclose(moved, weight * gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.sums.loss / 6, losses[OWN] + 0.3 * losses[AUXILIARY], rtol=1e-5)


def test_a_frozen_auxiliary_head_does_not_run() -> None:
    frozen = {path: value for path, value in PARAMS.items() if path.startswith(AUXILIARY)}
    trained = {path: value for path, value in PARAMS.items() if path not in frozen}
    state = step(task(frozenset({"stage1", "stage1/head"})), trained, frozen)
    assert set(state.trained) == set(trained)
    np.testing.assert_allclose(state.sums.loss / 6, by_hand(OWN, 0.0)[0], rtol=1e-5)


@pytest.mark.parametrize("parts", [4, 5])
def test_parts_that_do_not_divide_a_batch_are_refused(parts: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size: 1 devices of {parts} parts do not divide a batch of 6"):
        step(dataclasses.replace(task(), accumulate=parts), PARAMS, {})


def test_devices_that_do_not_divide_an_evaluated_batch_are_refused() -> None:
    spread = dataclasses.replace(task(), axis="devices", eval_batch_size=7)
    feed = Feed(jnp.asarray(IMAGES), jnp.asarray(LABELS))

    def evaluate(shard: jax.Array) -> Any:
        return evaluate_batch(spread, PARAMS, {}, feed, jnp.int32(0), jnp.int32(6), shard)

    with pytest.raises(ValueError, match="eval_batch_size: 2 devices of 1 parts do not divide a batch of 7"):
        jax.vmap(evaluate, axis_name="devices")(jnp.arange(2))


def test_evaluation_leaves_the_auxiliary_heads_out() -> None:
    feed = Feed(jnp.asarray(IMAGES), jnp.asarray(LABELS))
    sums = evaluate_batch(task(), PARAMS, {}, feed, jnp.int32(0), jnp.int32(6), 0)
    np.testing.assert_allclose(sums.loss / 6, by_hand(OWN, 0.0)[0], rtol=1e-5)
