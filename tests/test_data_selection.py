"""Which examples make up each split, known from the labels alone."""

import numpy as np
import pytest

from cnnjax.config import DataConfig
from cnnjax.data.selection import select, sources_of

LABELS = {"train": np.arange(40, dtype=np.int32) % 4, "test": np.arange(8, dtype=np.int32) % 4}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "validation", "test", "extra"], ["train", "validation", "test"]),
        (["train", "test"], ["train", "train", "test"]),
        (["train", "validation"], ["train", "train", "validation"]),
    ],
)
def test_splits_come_from_those_that_there_are(names: list[str], expected: list[str]) -> None:
    assert list(sources_of(DataConfig(), names).values()) == expected


def test_held_out_examples_are_no_training_examples() -> None:
    sources = sources_of(DataConfig(), LABELS)
    chosen, classes = select(DataConfig(validation=0.3), sources, LABELS.__getitem__, 4)
    assert classes == 4
    assert sorted([*chosen["train"].places, *chosen["validation"].places]) == list(range(40))
    assert np.bincount(chosen["validation"].labels).tolist() == [3] * 4
    for part in chosen.values():
        assert np.array_equal(part.labels, LABELS[part.source][part.places])


def test_classes_are_numbered_in_the_order_they_are_asked_for() -> None:
    config = DataConfig(classes=(1, 3, 0))
    chosen, classes = select(config, sources_of(config, LABELS), LABELS.__getitem__, 4)
    assert classes == 3
    for part in chosen.values():
        before = LABELS[part.source][part.places]
        assert np.array_equal(np.array(config.classes)[part.labels], before)
        assert set(before) == {0, 1, 3}
        assert part.labels.dtype == np.int32
