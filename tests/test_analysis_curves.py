"""Accuracy, agreement and shift consistency against loops and theory."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.analysis.curves import accuracy_curve, shift_consistency
from cnnjax.analysis.subject import Subject
from cnnjax.analysis.sweep import Sweep
from cnnjax.layers.blocks import ConvBlock
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dense import Dense
from cnnjax.layers.region_pooling import GlobalPool
from cnnjax.models.network import Network, Stage
from cnnjax.ops.pooling import global_max_pool
from tests.variables import drawn_variables
from tests.wilson import wilson

RNG = np.random.default_rng(1)
SIGNALS = RNG.normal(size=(11, 8, 1)).astype(np.float32)
IMAGES = RNG.normal(size=(5, 6, 6, 1)).astype(np.float32)
LABELS = RNG.integers(0, 3, 11)


def subject_of(model: Network, images: np.ndarray) -> Subject:
    return Subject(model, drawn_variables(model, images[:1].shape), (0.0,), (1.0,))


LINEAR = subject_of(Network((Stage("head", Dense(3)),)), SIGNALS)


def pooled(images: np.ndarray) -> Subject:
    stage = Stage("stage", ConvBlock(Conv(4, 3, border="circular"), nn.relu))
    model = Network((stage, Stage("pool", GlobalPool(global_max_pool)), Stage("head", Dense(3))))
    return subject_of(model, images)


def top_1(signals: np.ndarray) -> np.ndarray:
    dense = LINEAR.variables["params"]["head"]
    return np.argmax(signals.reshape(len(signals), -1) @ dense["kernel"] + dense["bias"], axis=1)


def test_curves_are_those_of_a_loop() -> None:
    magnitudes = [-2.0, 0.0, 1.0, 3.0]
    findings = accuracy_curve(Sweep(LINEAR, SIGNALS, "shift", magnitudes, batch_size=4, labels=LABELS))
    assert [f.metric for f in findings] == ["shift/accuracy"] * 4 + ["shift/agreement"] * 4
    for i, magnitude in enumerate(magnitudes):
        found = top_1(np.roll(SIGNALS, int(magnitude), axis=1))
        for finding, expected in ((findings[i], LABELS), (findings[4 + i], top_1(SIGNALS))):
            right = (found == expected).astype(float)
            assert (finding.magnitude, finding.stage) == (magnitude, None)
            np.testing.assert_allclose(finding.value, right.mean(), rtol=1e-12)
            np.testing.assert_allclose([finding.low, finding.high], wilson(right.mean(), 11), atol=1e-9)
    assert findings[5].value == 1 > findings[6].value


@pytest.mark.parametrize("images", [SIGNALS, IMAGES], ids=["1-D", "2-D"])
def test_a_pooled_circular_network_is_of_one_mind(images: np.ndarray) -> None:
    (finding,) = shift_consistency(pooled(images), images, 3, jax.random.key(0), pairs=4, batch_size=4)
    assert finding.metric == "random_shift/consistency"
    assert (finding.value, finding.magnitude) == (1, 3)
    # That all agree is not certain for the images that were not shown.
    np.testing.assert_allclose([finding.low, finding.high], wilson(1.0, len(images)))
    assert finding.low < 0.75 and finding.high == 1


def test_consistency_is_the_share_of_agreeing_shifts() -> None:
    """Over all shifts of -1, 0, 1, of which each pair is as likely."""
    classes = np.stack([top_1(np.roll(SIGNALS, shift, axis=1)) for shift in (-1, 0, 1)])
    expected = np.mean(classes[:, None] == classes[None, :])
    (finding,) = shift_consistency(LINEAR, SIGNALS, 1, jax.random.key(0), pairs=300, batch_size=11)
    assert expected < 0.9
    assert abs(finding.value - expected) < 0.04
    np.testing.assert_allclose([finding.low, finding.high], wilson(finding.value, 11))


def test_the_axes_are_shifted_independently() -> None:
    """The class says whether row and column of the one bright pixel are equal, as they are before."""
    images = np.zeros((50, 5, 5, 1), np.float32)
    images[:, 2, 2] = 1
    model = Network((Stage("head", Dense(2)),))
    kernel = np.stack([np.eye(5).ravel(), 1 - np.eye(5).ravel()], axis=1).astype(np.float32)
    subject = Subject(model, {"params": {"head": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}}, (0.0,), (1.0,))
    (finding,) = shift_consistency(subject, images, 2, jax.random.key(1), pairs=20, batch_size=50)
    assert abs(finding.value - (0.2**2 + 0.8**2)) < 0.05


@pytest.mark.parametrize(("largest", "pairs"), [(0, 1), (1, 0)])
def test_no_shift_and_no_pairs_are_refused(largest: int, pairs: int) -> None:
    with pytest.raises(ValueError, match=f"largest shift {largest} and the number of pairs {pairs}"):
        shift_consistency(LINEAR, SIGNALS, largest, jax.random.key(0), pairs)


def test_an_unknown_transformation_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown transformation 'spin'; there are: .*rotation"):
        accuracy_curve(Sweep(LINEAR, SIGNALS, "spin", [1.0], labels=LABELS))
