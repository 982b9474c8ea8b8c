"""A data set as arrays in memory, with the three splits that every study needs."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.splits import stratified, stratified_order

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


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
        (image - mean) / std.
      low, high: the least and the greatest legal value of a pixel: 0 and 255, or of what is not uint8 those of the
        training split.
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


def load_dataset(config: DataConfig) -> Dataset:
    """The whole data set in memory.

    Where it has no validation split, a stratified share of the training split is held out; where it has no test split,
    its validation split is the test. The summary is of what is used of the training split.

    Raises:
      RequestError: for a set that is not here, has no training split, or no images of one size with labels; a
        validation share that leaves a split empty; classes that it does not have; or more examples than it has, or
        fewer than classes.
    """
    # TFDS takes a quarter of a second to load, and whoever describes a network for images of a given shape has no data.
    from cnnjax.data.preparation import prepared_builder

    builder = prepared_builder(config)
    names = set(builder.info.splits)
    if "train" not in names or not names & {"test", "validation"}:
        raise RequestError(f"config.data.name: {config.name} has splits {sorted(names)}; needs train and test")
    _check_features(builder)
    train = _read(builder, "train")
    if {"validation", "test"} <= names:
        validation, test = _read(builder, "validation"), _read(builder, "test")
    else:
        test = _read(builder, "test" if "test" in names else "validation")
        shares = {"train": 1 - config.validation, "validation": config.validation}
        parts = stratified(train.labels, shares)
        if empty := [name for name in parts if len(parts[name]) == 0]:
            raise RequestError(
                f"config.data.validation: {config.validation:g} of {len(train)} training examples leaves "
                f"the {empty[0]} split empty"
            )
        train, validation = train.take(parts["train"]), train.take(parts["validation"])
    num_classes = builder.info.features[_keys(builder)[1]].num_classes
    if config.classes:
        _check_classes(config, num_classes)
        train, validation, test = (_keep_classes(split, config.classes) for split in (train, validation, test))
        num_classes = len(config.classes)
    if config.examples:
        train = _first_examples(config, train)
    if config.shuffled:
        train, validation, test = (_shuffled(split) for split in (train, validation, test))
    return Dataset(_summary(config, num_classes, train, validation, test), train, validation, test)


def _check_classes(config: DataConfig, num_classes: int) -> None:
    wrong = [label for label in config.classes if label >= num_classes]
    if wrong:
        raise RequestError(f"config.data.classes: {config.name} has no class {wrong[0]}; only 0 to {num_classes - 1}")
    if len(config.classes) < 2 or len(set(config.classes)) < len(config.classes):
        given = ",".join(map(str, config.classes))
        raise RequestError(f"config.data.classes: needs two classes or more, each once; given {given}")


def _keep_classes(split: Split, classes: tuple[int, ...]) -> Split:
    """The examples of these classes, whose labels become their places in `classes`."""
    kept = split.take(np.flatnonzero(np.isin(split.labels, classes)))
    order = np.argsort(classes)
    return Split(kept.images, order[np.searchsorted(classes, kept.labels, sorter=order)].astype(np.int32))


def _first_examples(config: DataConfig, train: Split) -> Split:
    """So many as are asked for of the training split, stratified, in the order they are in."""
    given, classes = config.examples, len(np.unique(train.labels))
    if given > len(train):
        raise RequestError(
            f"config.data.examples: {given} is more than the {len(train)} training examples of {config.name}"
        )
    if given < classes:
        raise RequestError(
            f"config.data.examples: {given} is less than one of each of the {classes} classes of {config.name}"
        )
    return train.take(np.sort(stratified_order(train.labels)[:given]))


def _shuffled(split: Split) -> Split:
    """All positions permuted alike in every example, by NumPy's frozen legacy generator with seed 0."""
    positions = split.images.reshape(len(split), -1, split.images.shape[-1])
    order = np.random.RandomState(0).permutation(positions.shape[1])
    return Split(positions[:, order].reshape(split.images.shape), split.labels)


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


def _keys(builder: "tfds.core.DatasetBuilder") -> tuple[str, str]:
    keys = builder.info.supervised_keys
    if keys is None or not all(isinstance(key, str) for key in keys):
        raise RequestError(f"config.data.name: {builder.name} is not a classification set: it names no input and label")
    return keys[0], keys[1]


def _read(builder: "tfds.core.DatasetBuilder", split: str) -> Split:
    image_key, label_key = _keys(builder)
    source = builder.as_data_source(split=split)
    images, labels = [], []
    for example in source:
        images.append(example[image_key])
        labels.append(example[label_key])
    if not images:
        raise RequestError(f"config.data.name: the {split} split of {builder.name} is empty")
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise RequestError(f"config.data.name: {builder.name} has images of {len(shapes)} sizes; needs one size")
    stacked = np.stack(images)
    return Split(stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32), np.asarray(labels, np.int32))


def _check_features(builder: "tfds.core.DatasetBuilder") -> None:
    import tensorflow_datasets as tfds

    image_key, label_key = _keys(builder)
    image, label = builder.info.features[image_key], builder.info.features[label_key]
    name = builder.name
    arrays = tfds.features.Image | tfds.features.Tensor
    if not isinstance(image, arrays) or isinstance(image, tfds.features.ClassLabel | tfds.features.Text):
        raise RequestError(f"config.data.name: the inputs of {name} are not arrays but {type(image).__name__}")
    if not isinstance(label, tfds.features.ClassLabel):
        raise RequestError(f"config.data.name: the labels of {name} are not classes but {type(label).__name__}")
