"""Data sets of one's own, prepared in a folder without TensorFlow."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from cnnjax.config import DataConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 5, 7, 3), np.uint8)
LABELS = np.arange(60) % 3
ENCODED = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "label": tfds.features.ClassLabel(num_classes=3),
}

Examples = Iterable[dict[str, Any]]


def prepare(
    folder: Path,
    splits: dict[str, Examples],
    features: dict[str, Any] = ENCODED,
    keys: tuple[str, str] | None = ("image", "label"),
) -> DataConfig:
    """A data set `small`, of which nothing but its files is left to read it by."""

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            info = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=info, supervised_keys=keys)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {name: self._generate_examples(examples) for name, examples in splits.items()}

        def _generate_examples(self, examples: Examples) -> Iterator[tuple[int, dict[str, Any]]]:
            yield from enumerate(examples)

    Small(data_dir=folder, file_format="array_record").download_and_prepare()
    return DataConfig(name="small", dir=str(folder), validation=0.25)


def png(image: np.ndarray) -> io.BytesIO:
    """A file of an image, encoded."""
    return encode(PIL.Image.fromarray(image), "PNG")


def encode(picture: PIL.Image.Image, form: str) -> io.BytesIO:
    """A file of a picture."""
    file = io.BytesIO()
    picture.save(file, form)
    file.seek(0)
    return file


def encoded(first: int, end: int) -> Examples:
    """Some of `IMAGES`, as files."""
    return [{"image": png(IMAGES[i]), "label": int(LABELS[i])} for i in range(first, end)]


def places(images: np.ndarray) -> list[int]:
    """Where in `IMAGES` each image is from."""
    known = {image.tobytes(): place for place, image in enumerate(IMAGES)}
    return [known[image.tobytes()] for image in images]


def photographs(folder: Path) -> DataConfig:
    """40 and 10 JPEG files of sizes from 20 x 30 to 59 x 33, most in colour, some grey; 3 classes."""
    rng = np.random.default_rng(1)

    def photograph(number: int) -> dict[str, Any]:
        small = PIL.Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
        picture = small.resize((30 + number % 4, 20 + number % 40), PIL.Image.Resampling.BICUBIC)
        return {"image": encode(picture.convert("L" if number % 7 == 3 else "RGB"), "JPEG"), "label": number % 3}

    every = [photograph(number) for number in range(50)]
    return prepare(folder, {"train": every[:40], "test": every[40:]})
