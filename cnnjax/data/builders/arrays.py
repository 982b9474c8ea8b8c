"""A TFDS builder for arrays that a package ships."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.splits import stratified

Arrays = tuple[np.ndarray, np.ndarray]


class ArrayBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Images [N, *SHAPE] and labels [N], prepared as ArrayRecord without TensorFlow.

    A subclass gives the class attributes and `splits`.
    """

    SHAPE: tuple[int, ...]
    DTYPE: type[np.generic]
    DESCRIPTION: str
    CLASSES: int = 10

    def splits(self) -> dict[str, Arrays]:
        """Images and labels of each split by name."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Tensor(shape=self.SHAPE, dtype=self.DTYPE)
        features = {"image": image, "label": tfds.features.ClassLabel(num_classes=self.CLASSES)}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {name: self._generate_examples(*arrays) for name, arrays in self.splits().items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": image.reshape(self.SHAPE).astype(self.DTYPE), "label": int(label)}


def split_once(images: np.ndarray, labels: np.ndarray) -> dict[str, Arrays]:
    """70% train, 10% validation and 20% test, stratified, for a set that comes in one piece."""
    parts = stratified(labels, {"train": 0.7, "validation": 0.1, "test": 0.2})
    return {name: (images[index], labels[index]) for name, index in parts.items()}
