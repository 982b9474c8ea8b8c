"""Probes of stages that can or cannot be read linearly, and against scikit-learn's ridge regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cnnjax.analysis.probes import STRENGTHS, probe_accuracy
from cnnjax.analysis.subject import Subject, stage_outputs
from cnnjax.layers.blocks import DenseBlock
from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage
from tests.variables import drawn_variables
from tests.wilson import wilson

# The class is the sign of a product: no line tells it from the input, and one does from the squares of sums.
NETWORK = Network((Stage("squares", DenseBlock(Dense(2), jnp.square)), Stage("head", Dense(2))))
KEY = jax.random.key(0)


def saddle(examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(seed).uniform(-1, 1, (examples, 2, 1)).astype(np.float32)
    return images, (images.prod((1, 2)) > 0).astype(np.int32)


def by_scikit_learn(features: np.ndarray, labels: np.ndarray, test: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Whether each test example is classed rightly [M]."""
    order = np.asarray(jax.random.permutation(KEY, len(labels)))
    count = round(0.2 * len(labels))
    held, fitted = order[:count], order[count:]
    unit = np.square(features[fitted] - features[fitted].mean(0)).sum(0).mean()
    best, chosen = -1.0, None
    for strength in sorted(STRENGTHS, reverse=True):
        fit = Ridge(alpha=strength * unit, solver="svd").fit(features[fitted], np.eye(2)[labels[fitted]])
        accuracy = (fit.predict(features[held]).argmax(1) == labels[held]).mean()
        if accuracy > best:
            best, chosen = accuracy, fit
    return chosen.predict(test[0]).argmax(1) == test[1]


@pytest.mark.parametrize(
    "most_bytes",
    [2**20, pytest.param(150 * 4 * 2, marks=pytest.mark.slow), 256],
    ids=["kept", "some kept", "recomputed"],
)
def test_against_scikit_learn(most_bytes: int) -> None:
    train, test = saddle(100, 0), saddle(50, 1)
    variables = drawn_variables(NETWORK, train[0].shape)
    variables["params"]["squares"]["dense"] = {"kernel": np.float32([[1, 1], [1, -1]]), "bias": np.zeros(2, np.float32)}
    subject = Subject(NETWORK, variables, (0.0,), (0.5,))
    findings = probe_accuracy(subject, train, test, key=KEY, batch_size=64, most_bytes=most_bytes)
    assert [(finding.metric, finding.stage) for finding in findings] == [
        ("probe_accuracy", stage) for stage in ("input", "squares", "head")
    ]
    outputs = [stage_outputs(subject, images) for images, _ in (train, test)]
    for finding in findings:
        features = [np.float64(part[finding.stage]).reshape(len(part["head"]), -1) for part in outputs]
        right = by_scikit_learn(features[0], train[1], (features[1], test[1]))
        assert finding.value == pytest.approx(right.mean())
        assert (finding.low, finding.high) == pytest.approx(wilson(right.mean(), 50))
    assert findings[0].value < 0.75 < 0.9 < findings[1].value


def test_what_is_linear_in_the_input_is_read_and_noise_is_not() -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (120, 4, 1)).astype(np.uint8)
    labels = (images[:, 1, 0] > 127).astype(np.int32)
    shuffled = rng.permutation(labels)
    subject = Subject(NETWORK, drawn_variables(NETWORK, images.shape), (127.0,), (70.0,))
    read, chance = (
        probe_accuracy(subject, (images[:80], y[:80]), (images[80:], y[80:]), key=KEY, stages=("input",), batch_size=64)
        for y in (labels, shuffled)
    )
    assert read[0].value > 0.85
    assert chance[0].low < 0.5 < chance[0].high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ("stage1",)}, "no stage 'stage1'; there are: input, squares, head"),
        ({"held_out": 1.0}, r"held_out must be in \(0, 1\)"),
        ({"test": (np.zeros((2, 2, 1)), np.zeros(3, int))}, "3 labels for 2 images"),
        ({"train": (np.zeros((1, 2, 1)), np.zeros(1, int))}, "two training images"),
        ({"train": (np.zeros((3, 2, 1)), np.array([0, -1, 1]))}, "labels must be in"),
        ({"strengths": (-1.0,)}, "strengths must be"),
    ],
)
def test_wrong_input(change: dict, message: str) -> None:
    subject = Subject(NETWORK, drawn_variables(NETWORK, (1, 2, 1)), (0.0,), (1.0,))
    with pytest.raises(ValueError, match=message):
        probe_accuracy(subject, **{"train": saddle(9, 0), "test": saddle(3, 1), "key": KEY, **change})
