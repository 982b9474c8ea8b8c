"""What must be known of every example of a split that is not read whole: the labels, and whether one size is all."""

import io
import logging
import os
import zipfile
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from cnnjax.data.records import Records

log = logging.getLogger(__name__)


class Catalogue(NamedTuple):
    """Of a split.

    Attributes:
      labels: [N] int32.
      shape: of every image, [*spatial, C]; empty where they differ.
    """

    labels: np.ndarray
    shape: tuple[int, ...]


def read_catalogue(builder: tfds.core.DatasetBuilder, split: str, records: Records) -> Catalogue:
    """The catalogue of a prepared set's split.

    All examples are read once, no image decoded. What was found is kept beside the set, where that can be written to.

    Args:
      builder: of the set.
      split: of the set's own.
      records: its examples.
    """
    file = epath.Path(builder.data_path) / f"cnnjax-{split}.npz"
    contents = builder.info.splits[split].num_bytes
    kept = _kept(file, contents, len(records))
    if kept is not None:
        return kept
    log.info("reading the %d labels of %s, split %s", len(records), records.name, split)
    labels = np.empty(len(records), np.int32)
    shapes = set()
    for place, record in enumerate(records):
        labels[place] = record.label
        shapes.add(records.shape(record))
    catalogue = Catalogue(labels, shapes.pop() if len(shapes) == 1 else ())
    _keep(file, contents, catalogue)
    return catalogue


def _kept(file: epath.Path, contents: int, examples: int) -> Catalogue | None:
    """What was kept, unless the set has been prepared anew since."""
    try:
        with np.load(io.BytesIO(file.read_bytes())) as arrays:
            catalogue = Catalogue(arrays["labels"], tuple(arrays["shape"].tolist()))
            return catalogue if arrays["contents"] == contents and len(catalogue.labels) == examples else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or damaged
        return None


def _keep(file: epath.Path, contents: int, catalogue: Catalogue) -> None:
    """Written beside and moved there: other processes may be reading."""
    buffer = io.BytesIO()
    np.savez(buffer, labels=catalogue.labels, shape=np.array(catalogue.shape, np.int64), contents=np.int64(contents))
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(buffer.getvalue())
        beside.replace(file)
    except OSError as error:
        log.info("%s cannot be kept (%s); it is read again each time", file, error)
