"""Data sets as arrays: the splits that every study needs, their summary, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.dataset import Dataset, load_dataset
from tests.prepared_sets import ENCODED, IMAGES, LABELS, encoded, places, png, prepare


def test_encoded_images_are_read_back_from_files_by_name(tmp_path: Path) -> None:
    dataset = load_dataset(prepare(tmp_path, {"train": encoded(0, 48), "test": encoded(48, 60)}))
    splits = (dataset.train, dataset.validation, dataset.test)
    found = [places(split.images) for split in splits]
    assert sorted(found[0] + found[1]) == list(range(48))
    assert sorted(found[2]) == list(range(48, 60))
    for split, where in zip(splits, found, strict=True):
        assert split.images.dtype == np.uint8
        assert np.array_equal(split.labels, LABELS[where])


def test_validation_is_carved_out_of_train_where_there_is_none(tmp_path: Path) -> None:
    dataset = load_dataset(prepare(tmp_path, {"train": encoded(0, 48), "test": encoded(48, 60)}))
    assert dataset.summary.sizes == {"train": 36, "validation": 12, "test": 12}
    assert np.bincount(dataset.train.labels).tolist() == [12] * 3
    assert np.bincount(dataset.validation.labels).tolist() == [4] * 3


@pytest.mark.parametrize(("share", "empty"), [(1e-6, "validation"), (1 - 1e-6, "train")])
def test_share_that_leaves_a_split_empty_is_refused(tmp_path: Path, share: float, empty: str) -> None:
    config = prepare(tmp_path, {"train": encoded(0, 48), "test": encoded(48, 60)})
    with pytest.raises(RequestError, match=f"config.data.validation: .* of 48 .* leaves the {empty} split empty"):
        load_dataset(dataclasses.replace(config, validation=share))


def test_splits_of_its_own_stay_as_they_are(tmp_path: Path) -> None:
    splits = {"train": encoded(0, 30), "validation": encoded(30, 50), "test": encoded(50, 60)}
    dataset = load_dataset(prepare(tmp_path, splits))
    assert sorted(places(dataset.train.images)) == list(range(30))
    assert sorted(places(dataset.validation.images)) == list(range(30, 50))
    assert sorted(places(dataset.test.images)) == list(range(50, 60))


def test_validation_is_the_test_where_there_is_no_test(tmp_path: Path) -> None:
    dataset = load_dataset(prepare(tmp_path, {"train": encoded(0, 48), "validation": encoded(48, 60)}))
    assert sorted(places(dataset.test.images)) == list(range(48, 60))
    assert sorted(places(dataset.train.images) + places(dataset.validation.images)) == list(range(48))


def test_summary_is_of_the_training_split_alone(tmp_path: Path) -> None:
    dataset = load_dataset(prepare(tmp_path, {"train": encoded(0, 48), "test": encoded(48, 60)}))
    pixels = IMAGES[places(dataset.train.images)].reshape(-1, 3).astype(np.float64)
    assert dataset.summary.name == "small"
    assert dataset.summary.shape == (5, 7, 3)
    assert dataset.summary.num_classes == 3
    np.testing.assert_allclose(dataset.summary.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(dataset.summary.std, pixels.std(0), rtol=1e-12)


def test_constant_channel_is_divided_by_one(tmp_path: Path) -> None:
    images = np.concatenate([IMAGES[:9, ..., :2], np.full((9, 5, 7, 1), 40, np.uint8)], -1)
    features = {**ENCODED, "image": tfds.features.Tensor(shape=(5, 7, 3), dtype=np.uint8)}
    examples = [{"image": image, "label": i % 3} for i, image in enumerate(images)]
    summary = load_dataset(prepare(tmp_path, {"train": examples, "test": examples}, features)).summary
    assert summary.mean[2] == 40
    assert summary.std[2] == 1


def test_float_signals_stay_floats(tmp_path: Path) -> None:
    signals = np.random.default_rng(1).normal(size=(12, 6, 2))
    features = {"image": tfds.features.Tensor(shape=(6, 2), dtype=np.float64), "label": ENCODED["label"]}
    examples = [{"image": signal, "label": i % 3} for i, signal in enumerate(signals)]
    dataset = load_dataset(prepare(tmp_path, {"train": examples, "validation": examples, "test": examples}, features))
    assert dataset.train.images.dtype == np.float32
    assert {signal.tobytes() for signal in dataset.train.images} == {
        signal.tobytes() for signal in signals.astype(np.float32)
    }


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    mixed = [*encoded(0, 4), {"image": png(IMAGES[4][:3]), "label": 1}]
    with pytest.raises(RequestError, match="small has images of 2 sizes; needs one size"):
        load_dataset(prepare(tmp_path, {"train": mixed, "test": encoded(5, 9)}))


@pytest.mark.parametrize("splits", [("train",), ("test",), ("first", "second")])
def test_missing_splits_are_refused(tmp_path: Path, splits: tuple[str, ...]) -> None:
    config = prepare(tmp_path, {name: encoded(0, 6) for name in splits})
    with pytest.raises(RequestError, match="needs train and test"):
        load_dataset(config)


def test_set_without_labels_is_refused(tmp_path: Path) -> None:
    config = prepare(tmp_path, {"train": encoded(0, 6), "test": encoded(6, 9)}, keys=None)
    with pytest.raises(RequestError, match="small is not a classification set"):
        load_dataset(config)


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (tfds.features.Scalar(np.float32), 0.5),
        (tfds.features.Text(), "a caption"),
        (tfds.features.Scalar(np.int32), 1),
    ],
    ids=["regression", "text", "integer"],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, feature: Any, value: Any) -> None:
    splits = {name: [{**example, "label": value} for example in encoded(0, 9)] for name in ("train", "test")}
    config = prepare(tmp_path, splits, {**ENCODED, "label": feature})
    with pytest.raises(RequestError, match="the labels of small are not classes"):
        load_dataset(config)


def test_input_that_is_no_array_is_refused(tmp_path: Path) -> None:
    examples = [{"image": "a review", "label": i % 3} for i in range(9)]
    config = prepare(tmp_path, {"train": examples, "test": examples}, {**ENCODED, "image": tfds.features.Text()})
    with pytest.raises(RequestError, match="small"):
        load_dataset(config)


def bare(tmp_path: Path) -> DataConfig:
    """48 training examples, of which 36 are left, and 12 of a test."""
    return prepare(tmp_path, {"train": encoded(0, 48), "test": encoded(48, 60)})


def test_fewer_examples_are_stratified_and_some_of_more(tmp_path: Path) -> None:
    config = bare(tmp_path)
    every = load_dataset(config)
    sizes = (3, 10, 36)
    some = [load_dataset(dataclasses.replace(config, examples=size)) for size in sizes]
    found = [set(places(dataset.train.images)) for dataset in some]
    assert [len(where) for where in found] == list(sizes)
    assert found[0] < found[1] < found[2] == set(places(every.train.images))
    assert np.bincount(some[0].train.labels).tolist() == [1, 1, 1]
    assert sorted(np.bincount(some[1].train.labels)) == [3, 3, 4]
    for dataset in some:
        assert np.array_equal(dataset.train.labels, LABELS[places(dataset.train.images)])
        assert np.array_equal(dataset.validation.images, every.validation.images)
        assert np.array_equal(dataset.test.images, every.test.images)


def test_summary_is_of_the_examples_used(tmp_path: Path) -> None:
    dataset = load_dataset(dataclasses.replace(bare(tmp_path), examples=4))
    pixels = dataset.train.images.reshape(-1, 3).astype(np.float64)
    assert dataset.summary.sizes == {"train": 4, "validation": 12, "test": 12}
    np.testing.assert_allclose(dataset.summary.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(dataset.summary.std, pixels.std(0), rtol=1e-12)


def test_examples_are_of_the_classes_kept(tmp_path: Path) -> None:
    dataset = load_dataset(dataclasses.replace(bare(tmp_path), classes=(2, 0), examples=6))
    assert np.bincount(dataset.train.labels).tolist() == [3, 3]
    assert set(LABELS[places(dataset.train.images)]) == {0, 2}


@pytest.mark.parametrize(
    ("examples", "problem"),
    [
        (37, "37 is more than the 36 training examples of small"),
        (2, "2 is less than one of each of the 3 classes of small"),
    ],
)
def test_examples_that_there_are_not_are_refused(tmp_path: Path, examples: int, problem: str) -> None:
    config = dataclasses.replace(bare(tmp_path), examples=examples)
    with pytest.raises(RequestError, match=f"^config.data.examples: {problem}$"):
        load_dataset(config)


def test_shuffled_positions_are_one_permutation_for_all_splits(tmp_path: Path) -> None:
    config = bare(tmp_path)
    plain, shuffled = load_dataset(config), load_dataset(dataclasses.replace(config, shuffled=True))
    splits = [(getattr(plain, name), getattr(shuffled, name)) for name in ("train", "validation", "test")]
    before, after = (np.concatenate([pair[i].images for pair in splits]).reshape(60, 35, 3) for i in (0, 1))
    moved_from = [int(np.flatnonzero((before == pixel[:, None]).all((0, 2)))[0]) for pixel in np.moveaxis(after, 1, 0)]
    assert sorted(moved_from) == list(range(35))
    assert moved_from != list(range(35))
    for one, other in splits:
        assert one.images.shape == other.images.shape
        assert np.array_equal(one.labels, other.labels)
    np.testing.assert_allclose(plain.summary.mean, shuffled.summary.mean, rtol=1e-12)


def test_take_keeps_images_with_their_labels(digits: Dataset) -> None:
    taken = digits.train.take(np.array([5, 2]))
    assert len(taken) == 2
    assert np.array_equal(taken.images, digits.train.images[[5, 2]])
    assert np.array_equal(taken.labels, digits.train.labels[[5, 2]])
