"""The examples of a prepared split, one by one."""

import io
import pickle
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from cnnjax.config import RequestError
from cnnjax.data.preparation import prepared_builder
from cnnjax.data.records import Records, num_classes, open_records
from tests.prepared_sets import ENCODED, IMAGES, LABELS, encode, encoded, places, prepare


def records_of(folder: Path, feature: tfds.features.FeatureConnector, images: list) -> Records:
    examples = [{"image": image, "label": 0} for image in images]
    config = prepare(folder, {"train": examples, "test": examples}, {**ENCODED, "image": feature})
    return open_records(prepared_builder(config), "train")


def test_files_stay_encoded_until_they_are_wanted(tmp_path: Path) -> None:
    builder = prepared_builder(prepare(tmp_path, {"train": encoded(0, 20), "test": encoded(20, 23)}))
    records = open_records(builder, "train")
    assert len(records) == 20
    assert num_classes(builder) == 3
    every = list(records)
    assert all(isinstance(record.image, bytes) for record in every)
    images = np.stack([records.array(record) for record in every])
    where = places(images)
    assert sorted(where) == list(range(20))
    assert [record.label for record in every] == LABELS[where].tolist()
    assert {records.shape(record) for record in every} == {(5, 7, 3)}
    some = records.read([4, 0, 4])
    assert [records.array(record).tobytes() for record in some] == [images[i].tobytes() for i in (4, 0, 4)]


def test_another_process_can_be_given_them(tmp_path: Path) -> None:
    config = prepare(tmp_path, {"train": encoded(0, 20), "test": encoded(20, 23)})
    records = open_records(prepared_builder(config), "train")
    again = pickle.loads(pickle.dumps(records))
    assert list(again) == list(records)


@pytest.mark.parametrize(("mode", "channels"), [("L", 3), ("P", 3), ("RGB", 1), ("RGBA", 3), ("L", 4)])
def test_picture_has_the_channels_of_the_set(tmp_path: Path, mode: str, channels: int) -> None:
    picture = PIL.Image.fromarray(IMAGES[0]).convert(mode)
    records = records_of(tmp_path, tfds.features.Image(shape=(None, None, channels)), [encode(picture, "PNG")])
    (record,) = records
    expected = np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).reshape(5, 7, channels)
    assert records.shape(record) == (5, 7, channels)
    assert np.array_equal(records.array(record), expected)


def test_arrays_are_pictures_where_they_can_be(tmp_path: Path) -> None:
    records = records_of(tmp_path, tfds.features.Tensor(shape=(5, 7, 1), dtype=np.uint8), [IMAGES[0][..., :1]])
    (record,) = records
    assert np.array_equal(np.asarray(records.picture(record)), IMAGES[0][..., 0])
    assert np.array_equal(records.array(record), IMAGES[0][..., :1])


def test_signal_is_no_picture(tmp_path: Path) -> None:
    records = records_of(tmp_path, tfds.features.Tensor(shape=(6, 2), dtype=np.float64), [np.ones((6, 2))])
    (record,) = records
    assert records.array(record).dtype == np.float32
    with pytest.raises(RequestError, match=r"of 8 bits but arrays \[6, 2\] of float64; leave it 0"):
        records.picture(record)


@pytest.mark.parametrize(("end", "form"), [(0, "PNG"), (60, "PNG"), (-200, "PNG"), (30, "JPEG"), (-40, "JPEG")])
def test_damaged_file_is_named(tmp_path: Path, end: int, form: str) -> None:
    large = PIL.Image.fromarray(np.tile(IMAGES[0], (20, 20, 1)))
    files = [io.BytesIO(encode(large, form).getvalue()[:end]), encode(large, form)]
    records = records_of(tmp_path, tfds.features.Image(shape=(None, None, 3)), files)
    damaged = min(records, key=lambda record: len(record.image))
    with pytest.raises(RequestError, match=f"^config.data.name: example {damaged.place} of train of small cannot be"):
        records.array(damaged)
