"""Which examples are in which batch: against the order in memory, and each example once."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from cnnjax.config import DataConfig
from cnnjax.data.batches import EvaluationBatches, Share, TrainingBatches
from cnnjax.data.dataset import Dataset, load_dataset
from cnnjax.data.feed import epoch_order
from cnnjax.data.recipe import training_square
from cnnjax.data.streamed import StreamedDataset, open_dataset
from cnnjax.ops.keys import stream_key
from tests.prepared_sets import encoded, photographs, places, prepare

ORDER = jax.jit(epoch_order, static_argnums=2)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """36 images to train on, 12 held out and 12 to test on."""
    folder = tmp_path_factory.mktemp("small")
    config = prepare(folder, {"train": encoded(0, 48), "test": encoded(48, 60)})
    return dataclasses.replace(config, streamed="always")


@pytest.fixture(scope="module")
def small(config: DataConfig) -> StreamedDataset:
    dataset = open_dataset(config)
    assert isinstance(dataset, StreamedDataset)
    return dataset


@pytest.fixture(scope="module")
def in_memory(config: DataConfig) -> Dataset:
    return load_dataset(config)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> StreamedDataset:
    """36 to train on."""
    config = photographs(tmp_path_factory.mktemp("photographs"))
    dataset = open_dataset(dataclasses.replace(config, image_size=10, validation=0.1, examples=36))
    assert isinstance(dataset, StreamedDataset)
    return dataset


def expected_indices(seed: int, batch_size: int, examples: int, steps: int) -> Iterator[np.ndarray]:
    """Of the examples at each step, as a run in memory takes them."""
    per_epoch = examples // batch_size
    for step in range(steps):
        order = np.asarray(ORDER(stream_key(seed, "order"), step // per_epoch, examples))
        yield order[step % per_epoch * batch_size :][:batch_size]


def test_order_is_that_in_memory(small: StreamedDataset, in_memory: Dataset) -> None:
    batches = TrainingBatches(small.train, seed=5, batch_size=10)  # 3 batches an epoch; 6 examples are left over
    for step, index in enumerate(expected_indices(5, 10, 36, 7)):
        batch = batches[step]
        assert np.array_equal(batch.images, in_memory.train.images[index])
        assert np.array_equal(batch.labels, in_memory.train.labels[index])
        assert batch.images.dtype == np.uint8
        assert batch.labels.dtype == np.int32
        assert batch.counted.all()


def test_every_epoch_has_each_example_once_in_an_order_of_its_own(small: StreamedDataset) -> None:
    batches = TrainingBatches(small.train, seed=0, batch_size=12)
    epochs = [places(np.concatenate([batches[step].images for step in range(3 * e, 3 * e + 3)])) for e in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert len(set(epochs[0])) == 36
    other = TrainingBatches(small.train, seed=1, batch_size=12)
    epochs.append(places(np.concatenate([other[step].images for step in range(3)])))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_shares_are_disjoint_and_together_the_batch(small: StreamedDataset) -> None:
    for step in (0, 4):
        whole = TrainingBatches(small.train, seed=2, batch_size=12)[step]
        shares = [TrainingBatches(small.train, 2, 12, Share(process, 2))[step] for process in (0, 1)]
        assert not set(places(shares[0].images)) & set(places(shares[1].images))
        for field in whole._fields:
            both = np.concatenate([getattr(share, field) for share in shares])
            assert np.array_equal(both, getattr(whole, field))


def test_processes_must_divide_the_batch(small: StreamedDataset) -> None:
    with pytest.raises(ValueError, match="5 processes do not divide a batch of 12"):
        TrainingBatches(small.train, 0, 12, Share(1, 5))[0]


def test_squares_depend_on_seed_epoch_and_example_alone(photos: StreamedDataset) -> None:
    split = photos.train

    def by_example(seed: int, batch_size: int, epoch: int) -> dict[int, np.ndarray]:
        steps = range(epoch * 36 // batch_size, (epoch + 1) * 36 // batch_size)
        batches = TrainingBatches(split, seed, batch_size)
        index = np.concatenate(list(expected_indices(seed, batch_size, 36, steps.stop))[steps.start :])
        return dict(zip(index.tolist(), np.concatenate([batches[step].images for step in steps]), strict=True))

    first, again = by_example(3, 12, 1), by_example(3, 6, 1)
    for example in range(36):
        (record,) = split.records.read([split.selection.places[example]])
        picture, generator = split.records.picture(record), np.random.RandomState([3, 1, example])
        assert np.array_equal(first[example], training_square(picture, 10, generator))
        assert np.array_equal(first[example], again[example])
    for other in (by_example(4, 12, 1), by_example(3, 12, 0)):
        assert all(not np.array_equal(first[example], other[example]) for example in range(36))


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_counts_each_example_once(small: StreamedDataset, in_memory: Dataset, processes: int) -> None:
    shares = [EvaluationBatches(small.test, 8, Share(process, processes)) for process in range(processes)]
    assert shares[0].batches == 2
    for start in (0, 2):  # again and again
        parts = [share[start + step] for step in range(2) for share in shares]
        images, labels, counted = (np.concatenate(column) for column in zip(*parts, strict=True))
        assert images.shape == (16, 5, 7, 3)
        assert counted.tolist() == [True] * 12 + [False] * 4
        assert np.array_equal(images[counted], in_memory.test.images)
        assert np.array_equal(labels[counted], in_memory.test.labels)


def test_evaluation_does_not_draw(photos: StreamedDataset) -> None:
    batch = EvaluationBatches(photos.validation, 3)[0]
    assert np.array_equal(batch.images, photos.validation.take(np.arange(3)).images)
