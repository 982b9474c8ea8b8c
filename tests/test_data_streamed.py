"""Data sets that stay on disk: the same examples as in memory, and images of several sizes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from cnnjax.config import DataConfig, RequestError
from cnnjax.data import catalogue, streamed
from cnnjax.data.dataset import Dataset, load_dataset
from cnnjax.data.recipe import evaluation_square
from cnnjax.data.records import Records
from cnnjax.data.streamed import StreamedDataset, open_dataset
from tests.prepared_sets import ENCODED, IMAGES, Examples, encode, encoded, photographs, png, prepare

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """48 and 12 images of 5 x 7, in PNG files: 6,300 bytes decoded."""
    config = prepare(tmp_path_factory.mktemp("small"), {"train": encoded(0, 48), "test": encoded(48, 60)})
    return dataclasses.replace(config, streamed="always")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return dataclasses.replace(photographs(tmp_path_factory.mktemp("photographs")), image_size=14)


def open_streamed(config: DataConfig) -> StreamedDataset:
    dataset = open_dataset(config)
    assert isinstance(dataset, StreamedDataset)
    return dataset


@pytest.mark.parametrize(("images", "kind"), [(59.9, StreamedDataset), (60, Dataset)])
def test_what_memory_does_not_hold_is_streamed(small: DataConfig, images: float, kind: type) -> None:
    memory = images * 5 * 7 * 3 / 2**30
    assert isinstance(open_dataset(dataclasses.replace(small, streamed="auto", memory=memory)), kind)


def test_never_keeps_it_in_memory(small: DataConfig) -> None:
    assert isinstance(open_dataset(dataclasses.replace(small, streamed="never", memory=1e-9)), Dataset)


@pytest.mark.parametrize(
    "change", [{}, {"shuffled": True}, {"classes": (2, 0), "examples": 7}], ids=["whole", "shuffled", "fewer"]
)
def test_same_examples_as_in_memory(small: DataConfig, change: dict) -> None:
    config = dataclasses.replace(small, **change)
    there, here = open_streamed(config), load_dataset(config)
    for name in SPLITS:
        split, known = getattr(there, name), getattr(here, name)
        assert len(split) == len(known)
        assert np.array_equal(split.labels, known.labels)
        index = np.random.default_rng(0).permutation(len(known))
        assert np.array_equal(split.take(index).images, known.images[index])
        assert np.array_equal(split.take(index).labels, known.labels[index])
    alike = ("name", "shape", "num_classes", "low", "high", "sizes")
    assert all(getattr(there.summary, field) == getattr(here.summary, field) for field in alike)
    np.testing.assert_allclose(there.summary.mean, here.summary.mean, rtol=1e-12)
    np.testing.assert_allclose(there.summary.std, here.summary.std, rtol=1e-12)


def with_16(**features: Any) -> Examples:
    """Examples of which one is other; its image is none of those that stand for all."""
    return [{**example, **features} if n == 16 else example for n, example in enumerate(encoded(0, 36))]


@pytest.mark.parametrize(
    ("train", "same"),
    [
        (encoded(0, 36), True),
        (with_16(label=2), False),
        (with_16(image=encode(PIL.Image.fromarray(IMAGES[16]), "BMP")), False),
        ([{**example, "image": png(255 - IMAGES[n])} for n, example in enumerate(encoded(0, 36))], False),
    ],
    ids=["same", "a label", "a shorter file", "images of the same lengths"],
)
def test_contents_tell_another_preparation(train: Examples, same: bool, tmp_path: Path) -> None:
    found = set()
    for name, examples in (("once", encoded(0, 36)), ("again", train)):
        splits = {"train": examples, "validation": encoded(36, 48), "test": encoded(48, 60)}
        config = prepare(tmp_path / name, splits)
        found.add(open_streamed(dataclasses.replace(config, streamed="always")).train.contents)
    assert len(found) == (1 if same else 2)


def test_summary_is_of_an_even_sample(small: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "SAMPLE", 6)
    summary = open_streamed(small).summary
    pixels = load_dataset(small).train.images[[0, 7, 14, 21, 28, 35]].reshape(-1, 3)
    np.testing.assert_allclose(summary.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(summary.std, pixels.std(0), rtol=1e-12)


def test_pieces_of_the_sample_are_put_together(small: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_streamed(small).summary
    monkeypatch.setattr(streamed, "_DECODED_AT_ONCE", 1)  # 16 a piece, and then 4
    pieces = open_streamed(small).summary
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(pieces.std, whole.std, rtol=1e-12)


def test_float_signals_are_streamed_as_they_are(tmp_path: Path) -> None:
    signals = np.random.default_rng(1).normal(size=(12, 6, 2))
    features = {"image": tfds.features.Tensor(shape=(6, 2), dtype=np.float64), "label": ENCODED["label"]}
    examples = [{"image": signal, "label": i % 3} for i, signal in enumerate(signals)]
    config = prepare(tmp_path, {"train": examples, "validation": examples, "test": examples}, features)
    there, here = open_streamed(dataclasses.replace(config, streamed="always")), load_dataset(config)
    assert np.array_equal(there.train.take(np.arange(12)).images, here.train.images)
    assert (there.summary.low, there.summary.high) == (here.summary.low, here.summary.high)
    with pytest.raises(RequestError, match=r"image_size: small has no images .* \[6, 2\] of float64; leave it 0"):
        open_dataset(dataclasses.replace(config, image_size=4))


def test_images_of_several_sizes_are_made_into_squares(photos: DataConfig) -> None:
    dataset = open_streamed(photos)
    assert dataset.summary.shape == (14, 14, 3)
    assert dataset.summary.sizes == {"train": 30, "validation": 10, "test": 10}
    split = dataset.validation
    for index, square in enumerate(split.take(np.arange(10)).images):
        (record,) = split.records.read([split.selection.places[index]])
        picture = split.records.picture(record)
        assert record.label == split.labels[index]
        assert np.array_equal(square, evaluation_square(picture, 14))


@pytest.mark.parametrize("mode", ["always", "never"])
def test_images_of_several_sizes_need_to_be_told_one(photos: DataConfig, mode: str) -> None:
    with pytest.raises(RequestError) as raised:
        open_dataset(dataclasses.replace(photos, image_size=0, streamed=mode))
    message = str(raised.value)
    assert message.startswith("config.data.image_size: small has images of ")
    assert message.endswith("the side of the squares to make of them, as in 224")


def test_squares_are_not_made_in_memory(photos: DataConfig) -> None:
    with pytest.raises(RequestError, match=r"^config.data.streamed: squares of config.data.image_size are made while"):
        open_dataset(dataclasses.replace(photos, streamed="never"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that are read for their labels."""
    seen: list[str] = []
    info = catalogue.log.info
    monkeypatch.setattr(catalogue.log, "info", lambda *words: (seen.append(str(words[-1])), info(*words)))
    return seen


def test_labels_are_read_once_and_nothing_is_decoded(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(photographs(tmp_path), image_size=14)
    decoded: list[PIL.Image.Image] = []
    picture = Records.picture
    monkeypatch.setattr(Records, "picture", lambda *given: decoded.append(picture(*given)) or decoded[-1])
    first = open_streamed(config)
    assert read == ["train", "test"]
    assert len(decoded) == 1 + 30  # the first for its channels, and the sample
    again = open_streamed(config)
    assert read == ["train", "test"]
    assert all(np.array_equal(getattr(first, name).labels, getattr(again, name).labels) for name in SPLITS)


@pytest.mark.parametrize("damage", ["cut off", "of another preparation"])
def test_labels_that_do_not_belong_to_the_set_are_read_again(tmp_path: Path, read: list[str], damage: str) -> None:
    config = dataclasses.replace(photographs(tmp_path), image_size=14)
    labels = open_streamed(config).train.labels
    (file,) = tmp_path.glob("small/*/cnnjax-train.npz")
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:100])
    else:
        np.savez(file, labels=np.zeros(40, np.int32), shape=np.zeros(0, np.int64), contents=np.int64(1))
    read.clear()
    assert np.array_equal(open_streamed(config).train.labels, labels)
    assert read == ["train"]


def test_folder_that_cannot_be_written_to_will_do(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(photographs(tmp_path), image_size=14)

    def refuse(*given: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(type(tfds.core.Path(tmp_path)), "write_bytes", refuse)
    assert open_streamed(config).summary.sizes["train"] == 30
    assert not list(tmp_path.glob("small/*/*cnnjax*"))
