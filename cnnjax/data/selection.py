"""Which examples of a prepared set make up the three splits that every study needs."""

import dataclasses
from collections.abc import Callable, Collection

import numpy as np

from cnnjax.config import DataConfig, RequestError
from cnnjax.data.splits import stratified, stratified_order

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Selection:
    """The examples of a split.

    Attributes:
      source: the prepared set's own split that they are from.
      places: [N], of each in it.
      labels: [N] int32, from 0 to the number of classes less one.
    """

    source: str
    places: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Selection":
        """Some of them."""
        return Selection(self.source, self.places[index], self.labels[index])


def sources_of(config: DataConfig, names: Collection[str]) -> dict[str, str]:
    """By split, the one of the prepared set's own that its examples are from.

    Raises:
      RequestError: if there is none to train on, or none to test on.
    """
    if "train" not in names or not {"test", "validation"} & set(names):
        raise RequestError(f"config.data.name: {config.name} has splits {sorted(names)}; needs train and test")
    if {"validation", "test"} <= set(names):
        return {split: split for split in SPLITS}
    return {"train": "train", "validation": "train", "test": "test" if "test" in names else "validation"}


def select(
    config: DataConfig, sources: dict[str, str], labels: Callable[[str], np.ndarray], num_classes: int
) -> tuple[dict[str, Selection], int]:
    """The examples of each split, and how many classes they are of.

    Where the set has no validation split, a stratified share of the training split is held out; where it has no test
    split, its validation split is the test.

    Args:
      config: which of them are wanted.
      sources: of `sources_of`.
      labels: from a split of the set's own to the labels of its examples [N].
      num_classes: of the set.

    Raises:
      RequestError: for a validation share that leaves a split empty, classes that it does not have, or more examples
        than it has, or fewer than classes.
    """
    chosen = {}
    for split in SPLITS:
        known = labels(sources[split])
        chosen[split] = Selection(sources[split], np.arange(len(known)), known)
    if sources["validation"] == sources["train"]:
        train = chosen["train"]
        parts = stratified(train.labels, {"train": 1 - config.validation, "validation": config.validation})
        if empty := [name for name in parts if len(parts[name]) == 0]:
            raise RequestError(
                f"config.data.validation: {config.validation:g} of {len(train)} training examples leaves "
                f"the {empty[0]} split empty"
            )
        chosen |= {name: train.take(index) for name, index in parts.items()}
    if config.classes:
        _check_classes(config, num_classes)
        chosen = {name: _keep_classes(selection, config.classes) for name, selection in chosen.items()}
        num_classes = len(config.classes)
    if config.examples:
        chosen["train"] = _first_examples(config, chosen["train"])
    return chosen, num_classes


def _check_classes(config: DataConfig, num_classes: int) -> None:
    wrong = [label for label in config.classes if label >= num_classes]
    if wrong:
        raise RequestError(f"config.data.classes: {config.name} has no class {wrong[0]}; only 0 to {num_classes - 1}")
    if len(config.classes) < 2 or len(set(config.classes)) < len(config.classes):
        given = ",".join(map(str, config.classes))
        raise RequestError(f"config.data.classes: needs two classes or more, each once; given {given}")


def _keep_classes(selection: Selection, classes: tuple[int, ...]) -> Selection:
    """The examples of these classes, whose labels become their places in `classes`."""
    kept = selection.take(np.flatnonzero(np.isin(selection.labels, classes)))
    order = np.argsort(classes)
    renumbered = order[np.searchsorted(classes, kept.labels, sorter=order)].astype(np.int32)
    return dataclasses.replace(kept, labels=renumbered)


def _first_examples(config: DataConfig, train: Selection) -> Selection:
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
