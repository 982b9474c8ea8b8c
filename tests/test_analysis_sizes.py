"""Accuracy at other sizes, of networks that take them and of one that does not."""

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.analysis.sizes import size_curve
from cnnjax.analysis.subject import Subject


def subject(pool: str) -> Subject:
    model = cnnjax.build("convnet", num_classes=2, width=2, depth=1, kernel_size=3, pool=pool)
    variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    return Subject(model, variables, (0.0,), (1.0,), 0.0, 1.0)


@pytest.mark.parametrize(
    ("pool", "taken"), [pytest.param("pyramid", [0.5, 1.0, 2.0], marks=pytest.mark.slow), ("stride", [1.0])]
)
def test_sizes_that_the_network_takes_are_measured(pool: str, taken: list[float]) -> None:
    own = subject(pool)
    grey = np.arange(10, dtype=np.float32)[:, None, None, None] / 10 * np.ones((10, 8, 8, 1), np.float32)
    truth = np.asarray(own.model.apply(own.variables, grey)).argmax(-1)
    truth[0] = 1 - truth[0]
    found = size_curve(own, grey, truth, (0.5, 1.0, 2.0), 4)
    assert [(f.metric, f.magnitude) for f in found] == [("size/accuracy", factor) for factor in taken]
    at_own = next(f for f in found if f.magnitude == 1)
    assert at_own.value == pytest.approx(0.9) and at_own.low is not None and at_own.low < 0.9


def test_a_size_of_nothing() -> None:
    with pytest.raises(ValueError, match="a factor of size must be above 0; given 0"):
        size_curve(subject("stride"), np.zeros((1, 8, 8, 1), np.float32), np.zeros(1, int), (1.0, 0))
