"""The examples of a TFDS split as they are prepared, read and decoded without TensorFlow."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from tensorflow_datasets.core.data_sources.base import BaseDataSource

from cnnjax.config import RequestError

# Pillow's name for images of so many channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}

# A call of ArrayRecord reads this many in parallel.
_READ_AT_ONCE = 256


class Record(NamedTuple):
    """An example.

    Attributes:
      place: in its split.
      image: the bytes of a PNG or JPEG file, or an array [*spatial, C].
      label: from 0.
    """

    place: int
    image: bytes | np.ndarray
    label: int


@dataclasses.dataclass(frozen=True)
class Records:
    """The examples of a split, in the order they are prepared in. Another process can be given it.

    Attributes:
      source: TFDS's; images of 8 bits in files stay encoded.
      image_key, label_key: the names of what is read.
      channels: of images that stay encoded; 0 where they are arrays.
    """

    source: BaseDataSource
    image_key: str
    label_key: str
    channels: int

    @property
    def name(self) -> str:
        """Of the set."""
        return self.source.dataset_info.name

    @property
    def nbytes(self) -> int:
        """Of the whole split, as it is prepared."""
        return int(self.source.dataset_info.splits[self.source.split].num_bytes)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, places: Sequence[int]) -> list[Record]:
        """The examples at these places."""
        examples = self.source.__getitems__(list(places))
        return [
            Record(place, example[self.image_key], int(example[self.label_key]))
            for place, example in zip(places, examples, strict=True)
        ]

    def __iter__(self) -> Iterator[Record]:
        for first in range(0, len(self), _READ_AT_ONCE):
            yield from self.read(range(first, min(first + _READ_AT_ONCE, len(self))))

    def shape(self, record: Record) -> tuple[int, ...]:
        """Of the image, [*spatial, C]; a file's header tells.

        Raises:
          RequestError: for a damaged file.
        """
        if not isinstance(record.image, bytes):
            return record.image.shape
        with self._file(record.place, record.image) as image:
            return image.height, image.width, self.channels

    def picture(self, record: Record) -> PIL.Image.Image:
        """The image, in grey, RGB or RGBA.

        Raises:
          RequestError: for a damaged file, or an array that is no image of 8 bits.
        """
        if isinstance(record.image, bytes):
            with self._file(record.place, record.image) as image:
                return image.convert(_MODES[self.channels])
        shape, dtype = record.image.shape, record.image.dtype
        if len(shape) != 3 or shape[-1] not in _MODES or dtype != np.uint8:
            raise RequestError(
                f"config.data.image_size: {self.name} has no images [height, width, 1, 3 or 4] of 8 bits but arrays "
                f"{list(shape)} of {dtype}; leave it 0"
            )
        return PIL.Image.fromarray(record.image.squeeze(-1) if shape[-1] == 1 else record.image)

    def array(self, record: Record) -> np.ndarray:
        """The image [*spatial, C], uint8, or float32 where it is of another type."""
        if isinstance(record.image, bytes):
            return pixels(self.picture(record))
        return record.image if record.image.dtype == np.uint8 else record.image.astype(np.float32)

    @contextlib.contextmanager
    def _file(self, place: int, contents: bytes) -> Iterator[PIL.Image.Image]:
        try:
            with PIL.Image.open(io.BytesIO(contents)) as image:
                yield image
        except (OSError, SyntaxError) as error:  # what Pillow raises for a damaged file
            reason = "of no known form" if isinstance(error, PIL.UnidentifiedImageError) else error
            raise RequestError(
                f"config.data.name: example {place} of {self.source.split} of {self.name} cannot be decoded ({reason})"
            ) from error


def pixels(picture: PIL.Image.Image) -> np.ndarray:
    """[height, width, C] uint8."""
    array = np.asarray(picture)
    return array if array.ndim == 3 else array[..., None]


def open_records(builder: tfds.core.DatasetBuilder, split: str) -> Records:
    """The examples of a prepared set's split.

    Raises:
      RequestError: if they are not arrays or images with classes, or there are none.
    """
    image_key, label_key = _keys(builder)
    image, label = builder.info.features[image_key], builder.info.features[label_key]
    arrays = tfds.features.Image | tfds.features.Tensor
    if not isinstance(image, arrays) or isinstance(image, tfds.features.ClassLabel | tfds.features.Text):
        raise RequestError(f"config.data.name: the inputs of {builder.name} are not arrays but {type(image).__name__}")
    if not isinstance(label, tfds.features.ClassLabel):
        raise RequestError(f"config.data.name: the labels of {builder.name} are not classes but {type(label).__name__}")
    encoded = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8 and image.shape[-1] in _MODES
    decoders = {image_key: tfds.decode.SkipDecoding()} if encoded else None
    source = builder.as_data_source(split=split, decoders=decoders)
    if len(source) == 0:
        raise RequestError(f"config.data.name: the {split} split of {builder.name} is empty")
    return Records(source, image_key, label_key, image.shape[-1] if encoded else 0)


def num_classes(builder: tfds.core.DatasetBuilder) -> int:
    """Of a set that `open_records` takes."""
    return builder.info.features[_keys(builder)[1]].num_classes


def _keys(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    keys = builder.info.supervised_keys
    if keys is None or not all(isinstance(key, str) for key in keys):
        raise RequestError(f"config.data.name: {builder.name} is not a classification set: it names no input and label")
    return keys[0], keys[1]
