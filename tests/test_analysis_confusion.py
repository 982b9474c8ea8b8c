"""The confusion matrix, counted by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as counted_by_scikit_learn

from cnnjax.analysis.confusion import class_recall, confusion_matrix
from cnnjax.analysis.subject import Subject
from cnnjax.layers.dense import Dense
from cnnjax.models.network import Network, Stage
from tests.wilson import wilson

# The logits are the three channels of an image of one pixel.
IDENTITY = {"params": {"head": {"kernel": np.eye(3, dtype=np.float32), "bias": np.zeros(3, np.float32)}}}
SUBJECT = Subject(Network((Stage("head", Dense(3)),)), IDENTITY, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("batch_size", [4, 16])
def test_counts(batch_size: int) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(11, 1, 3)).astype(np.float32), rng.integers(0, 3, 11)
    found = confusion_matrix(SUBJECT, images, labels, batch_size=batch_size)
    predicted = images[:, 0].argmax(1)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, counted_by_scikit_learn(labels, predicted, labels=[0, 1, 2]))
    assert found.sum() == 11


def test_true_classes_are_rows() -> None:
    images = np.eye(3, dtype=np.float32)[[2, 2, 1]][:, None]
    found = confusion_matrix(SUBJECT, images, np.array([0, 0, 1]), batch_size=4)
    np.testing.assert_array_equal(found, [[0, 0, 2], [0, 1, 0], [0, 0, 0]])


def test_recall() -> None:
    found = class_recall(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]))
    assert [(finding.metric, finding.value, finding.stage) for finding in found] == [
        ("recall/0", 0.75, None),
        ("recall/2", 1.0, None),
        ("recall/all", 5 / 6, None),
    ]
    np.testing.assert_allclose([[f.low, f.high] for f in found], [wilson(0.75, 4), wilson(1.0, 2), wilson(5 / 6, 6)])
    assert found[1].high == 1 > found[1].low


@pytest.mark.parametrize(("labels", "message"), [([0, 3], "labels must be in 0 ... 2"), ([0], "one length")])
def test_wrong_labels(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(SUBJECT, np.zeros((2, 1, 3), np.float32), np.array(labels))
