"""A data set that stays on disk, and is read and decoded while a run trains.

Where its images have one size it is the same set as in memory, in the same order; with `config.data.image_size` its
images may have any, and are made into squares (`cnnjax.data.recipe`).
"""

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import PIL.Image

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.catalogue import Catalogue, read_catalogue
from cnnjax.data.dataset import Dataset, DataSummary, Split, load_dataset, permute_positions
from cnnjax.data.preparation import prepared_builder
from cnnjax.data.recipe import evaluation_square
from cnnjax.data.records import Records, num_classes, open_records, pixels
from cnnjax.data.selection import Selection, select, sources_of

# A streamed set's mean and standard deviation are those of so many training examples at most, evenly spaced.
SAMPLE = 4096

_DECODED_AT_ONCE = 32  # by a thread
_TELLING = 16  # images that stand for all where a split is compared with what it was

Square = Callable[[PIL.Image.Image, int], PIL.Image.Image]


@dataclasses.dataclass(frozen=True)
class StreamedSplit:
    """Examples of one split, on disk. Another process can be given it.

    Attributes:
      records: of the set's own split that they are from.
      selection: which of them.
      image_size: the side of the squares that their images are made into; 0 for none.
      shuffled: whether the positions of each are permuted.
    """

    records: Records
    selection: Selection
    image_size: int
    shuffled: bool

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def labels(self) -> np.ndarray:
        """[N] int32."""
        return self.selection.labels

    @property
    def images(self) -> "StreamedImages":
        """[N, *spatial, C], as they are evaluated."""
        return StreamedImages((self,))

    def first(self, count: int) -> "StreamedSplit":
        """So many of its examples."""
        return dataclasses.replace(self, selection=self.selection.take(np.arange(len(self))[:count]))

    @functools.cached_property
    def contents(self) -> str:
        """A digest that tells the split from that of a set prepared anew with other examples, by its size, the places
        and labels of all, and some of the images; to read them all would take as long as an epoch."""
        digest = hashlib.sha256(f"{self.records.nbytes}".encode())
        for array in (self.selection.places, self.labels):
            digest.update(array.astype("<i8").tobytes())
        for record in self.records.read(self.selection.places[_evenly(len(self), _TELLING)].tolist()):
            digest.update(record.image if isinstance(record.image, bytes) else record.image.tobytes())
        return digest.hexdigest()[:16]

    def take(self, index: np.ndarray) -> Split:
        """The examples at these places, in memory, as they are evaluated; decoded by as many threads as there are
        cores."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            pieces = threads.map(self.decode, _pieces(index, _DECODED_AT_ONCE))
            return Split(np.concatenate(list(pieces)), self.labels[index])

    def decode(self, index: np.ndarray, squares: Iterable[Square] | None = None) -> np.ndarray:
        """The images [N, *spatial, C] at these places, by this thread.

        Args:
          index: [N].
          squares: how each is made into a square of `image_size`, where that is not 0; None for `evaluation_square`.
        """
        records = self.records.read(self.selection.places[index].tolist())
        if self.image_size:
            chosen = [evaluation_square] * len(records) if squares is None else squares
            pictures = map(self.records.picture, records)
            images = [
                pixels(square(picture, self.image_size)) for square, picture in zip(chosen, pictures, strict=True)
            ]
        else:
            images = [self.records.array(record) for record in records]
        stacked = np.stack(images)
        return permute_positions(stacked) if self.shuffled else stacked


@dataclasses.dataclass(frozen=True)
class StreamedImages:
    """The images of splits, one split after another, read like a NumPy array by a place, a slice or an array of places:
    they are decoded then."""

    splits: tuple[StreamedSplit, ...]

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def __getitem__(self, index: Any) -> np.ndarray:
        wanted = np.arange(len(self))[index]
        places = np.atleast_1d(wanted)
        ends = np.cumsum([len(split) for split in self.splits])
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        for split, end in zip(self.splits, ends, strict=True):
            inside = np.flatnonzero((places < end) & (places >= end - len(split)))
            if len(inside):
                found[inside] = split.take(places[inside] - (end - len(split))).images
        return found if np.ndim(wanted) else found[0]

    @functools.cached_property
    def _first(self) -> np.ndarray:
        return self.splits[0].decode(np.zeros(1, int))

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, *spatial, C]."""
        return len(self), *self._first.shape[1:]

    @property
    def ndim(self) -> int:
        """Of the shape."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """uint8, or float32 where the set is not of bytes."""
        return self._first.dtype

    @property
    def nbytes(self) -> int:
        """Of all images, decoded."""
        return len(self) * self._first.nbytes


@dataclasses.dataclass(frozen=True)
class StreamedDataset:
    """All splits, on disk, and their summary."""

    summary: DataSummary
    train: StreamedSplit
    validation: StreamedSplit
    test: StreamedSplit

    @property
    def together(self) -> Split:
        """The examples of all splits, one split after another in this order; still on disk."""
        splits = (self.train, self.validation, self.test)
        images = cast(np.ndarray, StreamedImages(splits))
        return Split(images, np.concatenate([split.labels for split in splits]))


AnyDataset = Dataset | StreamedDataset


def first_examples(split: Split | StreamedSplit, count: int, memory: float) -> tuple[np.ndarray, np.ndarray]:
    """The images [N, *spatial, C] and labels [N] of a split's first so many examples, as they are evaluated.

    Args:
      split: whose.
      count: how many; all where there are fewer.
      memory: GiB. Streamed images that would take more when decoded are read whenever they are looked at.
    """
    if isinstance(split, Split):
        return split.images[:count], split.labels[:count]
    part = split.first(count)
    images = part.images if part.images.nbytes > memory * 2**30 else part.images[:]
    return cast(np.ndarray, images), part.labels


def open_dataset(config: DataConfig) -> AnyDataset:
    """The data set, in memory or streamed, as `config.streamed` says.

    Raises:
      RequestError: as `load_dataset` does; for images of several sizes without `config.image_size`, or with it
        what is no image or is not to be streamed.
    """
    builder = prepared_builder(config)
    sources = sources_of(config, builder.info.splits)
    own = {source: open_records(builder, source) for source in dict.fromkeys(sources.values())}
    if not _is_streamed(config, own):
        return load_dataset(config)
    catalogues = {source: read_catalogue(builder, source, records) for source, records in own.items()}
    shape = _shape(config, own["train"], list(catalogues.values()))
    chosen, classes = select(config, sources, lambda source: catalogues[source].labels, num_classes(builder))
    splits = {
        name: StreamedSplit(own[part.source], part, config.image_size, config.shuffled) for name, part in chosen.items()
    }
    return StreamedDataset(_summary(config, shape, classes, splits), **splits)


def _is_streamed(config: DataConfig, own: dict[str, Records]) -> bool:
    if config.streamed != "auto" or config.image_size:
        return config.streamed != "never"
    first = own["train"]
    example = first.array(first.read([0])[0])
    return sum(map(len, own.values())) * example.nbytes > config.memory * 2**30


def _shape(config: DataConfig, train: Records, catalogues: list[Catalogue]) -> tuple[int, ...]:
    """Of every image that a network sees."""
    shapes = {catalogue.shape for catalogue in catalogues}
    if config.image_size:
        picture = train.picture(train.read([0])[0])
        return config.image_size, config.image_size, len(picture.getbands())
    if len(shapes) > 1 or () in shapes:
        raise RequestError(
            f"config.data.image_size: {train.name} has images of several sizes; needs the side of the squares to make "
            "of them, as in 224"
        )
    return shapes.pop()


def _summary(config: DataConfig, shape: tuple[int, ...], classes: int, splits: dict[str, StreamedSplit]) -> DataSummary:
    """What a network must know, its numbers by a sample; the variances of the pieces are put together exactly."""
    train = splits["train"]
    index = _evenly(len(train), SAMPLE)
    count, mean, squares = 0, np.zeros(shape[-1]), np.zeros(shape[-1])
    low, high = math.inf, -math.inf
    is_bytes = True
    for piece in _pieces(index, 16 * _DECODED_AT_ONCE):
        images = train.take(piece).images
        values = images.reshape(-1, shape[-1]).astype(np.float64)
        own, total = values.mean(0), count + len(values)
        apart = own - mean
        squares += ((values - own) ** 2).sum(0) + apart**2 * count * len(values) / total
        mean += apart * len(values) / total
        count, low, high = total, min(low, values.min()), max(high, values.max())
        is_bytes = images.dtype == np.uint8
    std = np.sqrt(squares / count)
    return DataSummary(
        name=config.name,
        shape=shape,
        num_classes=classes,
        mean=tuple(mean.tolist()),
        std=tuple(np.where(std > 0, std, 1).tolist()),
        low=0.0 if is_bytes else float(low),
        high=255.0 if is_bytes else float(high),
        sizes={name: len(split) for name, split in splits.items()},
    )


def _evenly(examples: int, most: int) -> np.ndarray:
    """So many places at most, evenly spaced."""
    return np.linspace(0, examples - 1, min(examples, most)).astype(int)


def _pieces(index: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(index), size):
        yield index[first : first + size]
