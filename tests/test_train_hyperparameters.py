"""Which numbers are inputs of a program, and which configs share one."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.config import Config, override
from cnnjax.layers.dropout import Dropout, scale_dropout
from cnnjax.train.hyperparameters import hyperparameters, program_config

CONFIG = override(
    Config(),
    {
        "model.dropout": 0.3,
        "data.augment": ("noise",),
        "optim.momentum": 0.8,
        "optim.weight_decay": 0.01,
        "optim.clip": 2.0,
        "optim.label_smoothing": 0.1,
        "optim.schedule": "step",
    },
)

NUMBERS = {
    "model.dropout": 0.6,
    "data.strength": 0.7,
    "optim.lr": 0.3,
    "optim.momentum": 0.4,
    "optim.weight_decay": 0.2,
    "optim.clip": 5.0,
    "optim.label_smoothing": 0.2,
    "optim.warmup": 0.2,
    "optim.step_at": (0.2, 0.6),
    "optim.step_factor": 0.5,
    "train.epochs": 7.0,
    "train.eval_every": 0.5,
    "train.save_every": 3.0,
}


@pytest.mark.parametrize("field", NUMBERS)
def test_numbers_that_change_no_shape_share_a_program(field: str) -> None:
    assert program_config(override(CONFIG, {field: NUMBERS[field]})) == program_config(CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"model.dropout": 0.0},
        {"optim.momentum": 0.0},
        {"optim.weight_decay": 0.0},
        {"optim.clip": 0.0},
        {"optim.label_smoothing": 0.0},
        {"optim.step_at": (0.5,)},
        {"optim.nesterov": True},
        {"optim.name": "adam"},
        {"optim.schedule": "cosine"},
        {"train.batch_size": 32},
        {"train.eval_batch_size": 32},
        {"model.width": 5},
        {"data.max_shift": 3},
    ],
)
def test_what_changes_the_program_does_not(change: dict[str, Any]) -> None:
    assert program_config(override(CONFIG, change)) != program_config(CONFIG)


def test_every_number_of_a_run_arrives() -> None:
    changes = {field: value for field, value in NUMBERS.items() if field.startswith(("model", "data", "optim"))}
    numbers = hyperparameters(override(CONFIG, changes), 50)
    assert {name: np.asarray(value).tolist() for name, value in numbers._asdict().items()} == {
        "lr": pytest.approx(0.3),
        "momentum": pytest.approx(0.4),
        "weight_decay": pytest.approx(0.2),
        "clip": 5.0,
        "label_smoothing": pytest.approx(0.2),
        "step_factor": 0.5,
        "steps": 50,
        "warmup": 10,
        "step_at": [10, 30],
        "dropout": pytest.approx(0.6 / program_config(CONFIG).model.dropout),
        "strength": pytest.approx(0.7),
    }


def test_dropout_of_a_run_is_the_programs_times_its_share() -> None:
    x, key = np.ones((4, 500), np.float32), jax.random.key(0)
    own, programs = Dropout(0.3), Dropout(program_config(CONFIG).model.dropout)
    share = hyperparameters(CONFIG, 1).dropout

    def drop(layer: Dropout) -> np.ndarray:
        return np.asarray(layer.apply({}, x, train=True, rngs={"dropout": key}))

    with nn.intercept_methods(scale_dropout(share)):
        scaled = drop(programs)
    np.testing.assert_allclose(scaled, drop(own), rtol=1e-6)
    assert 0.2 < (scaled == 0).mean() < 0.4
