"""A data set as arrays in memory, with the three splits that every study needs."""

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.selection import select, sources_of

if TYPE_CHECKING:
    from cnnjax.data.records import Records


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples of one split.

    Attributes:
      images: [N, *spatial, C], uint8 in 0..255 or float32.
      labels: [N] int32, from 0 to the number of classes less one.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Split":
        """The examples at these places."""
        return Split(self.images[index], self.labels[index])


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """What a network must know of its data, and a finished run keeps.

    Attributes:
      name: of the TFDS builder.
      shape: of one example, [*spatial, C].
      num_classes: of the labels.
      mean, std: of each channel over the training split, in the images' own units; the input of every network is
        (image - mean) / std. Of a streamed set they are of a sample; see `cnnjax.data.streamed`.
      low, high: the least and the greatest legal value of a pixel: 0 and 255, or of what is not uint8 those of the
        training split, or of its sample.
      sizes: examples of each split.
    """

    name: str
    shape: tuple[int, ...]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float
    high: float
    sizes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """All splits and their summary."""

    summary: DataSummary
    train: Split
    validation: Split
    test: Split

    @functools.cached_property
    def together(self) -> Split:
        """The examples of all splits, one split after another in this order; the same memory whoever asks."""
        splits = (self.train, self.validation, self.test)
        images, labels = (np.concatenate(parts) for parts in zip(*((s.images, s.labels) for s in splits), strict=True))
        return Split(images, labels)


def load_dataset(config: DataConfig) -> Dataset:
    """The whole data set in memory; see `cnnjax.data.selection` for its splits.

    The summary is of what is used of the training split.

    Raises:
      RequestError: for a set that is not here, has no training split, or no images of one size with labels; for an
        `image_size`; and as `select` does.
    """
    if config.image_size:
        raise RequestError(
            "config.data.streamed: squares of config.data.image_size are made while a set is streamed; use auto"
        )
    # TFDS takes a quarter of a second to load, and whoever describes a network for images of a given shape has no data.
    from cnnjax.data.preparation import prepared_builder
    from cnnjax.data.records import num_classes, open_records

    builder = prepared_builder(config)
    sources = sources_of(config, builder.info.splits)
    own = {source: _read(open_records(builder, source)) for source in dict.fromkeys(sources.values())}
    chosen, classes = select(config, sources, lambda source: own[source].labels, num_classes(builder))
    splits = [Split(own[part.source].images[part.places], part.labels) for part in chosen.values()]
    if config.shuffled:
        splits = [Split(permute_positions(split.images), split.labels) for split in splits]
    return Dataset(_summary(config, classes, *splits), *splits)


def permute_positions(images: np.ndarray) -> np.ndarray:
    """All positions of images [N, *spatial, C] permuted alike, by NumPy's frozen legacy generator with seed 0."""
    positions = images.reshape(len(images), -1, images.shape[-1])
    order = np.random.RandomState(0).permutation(positions.shape[1])
    return positions[:, order].reshape(images.shape)


def _summary(config: DataConfig, num_classes: int, *splits: Split) -> DataSummary:
    train = splits[0]
    axes = tuple(range(train.images.ndim - 1))
    low, high = (0, 255) if train.images.dtype == np.uint8 else (train.images.min(), train.images.max())
    std = train.images.std(axes, dtype=np.float64)
    return DataSummary(
        name=config.name,
        shape=train.images.shape[1:],
        num_classes=num_classes,
        mean=tuple(train.images.mean(axes, dtype=np.float64).tolist()),
        std=tuple(np.where(std > 0, std, 1).tolist()),
        low=float(low),
        high=float(high),
        sizes=dict(zip(("train", "validation", "test"), map(len, splits), strict=True)),
    )


def _read(records: "Records") -> Split:
    images, labels = [], []
    for record in records:
        images.append(records.array(record))
        labels.append(record.label)
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise RequestError(
            f"config.data.image_size: {records.name} has images of {len(shapes)} sizes; needs one size, the side of "
            "the squares to make of them, as in 224"
        )
    return Split(np.stack(images), np.asarray(labels, np.int32))
