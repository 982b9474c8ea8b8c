"""Features of frozen prefixes that memory does not hold, in files of the study's folder."""

import math
import os
from pathlib import Path

import numpy as np
from etils import epath

from cnnjax.filters.features import MOST_FEATURE_BYTES, Fill, MemoryStore
from cnnjax.study.files import partial

FOLDER = "features"


class FileStore:
    """Keeps features in memory where they fit, and else as `features/KEY.npy`, read as they are needed.

    A file is there whole or not at all, so what a killed study computed is not computed again.

    Args:
      folder: of the study; on this machine.
    """

    def __init__(self, folder: epath.Path) -> None:
        self._folder = folder / FOLDER
        self._memory = MemoryStore()

    def get(self, key: str, shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
        """See `cnnjax.filters.features.FeatureStore`."""
        if math.prod(shape) * dtype.itemsize <= MOST_FEATURE_BYTES:
            return self._memory.get(key, shape, dtype, fill)
        path = self._folder / f"{key}.npy"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            beside = partial(path)
            array = np.lib.format.open_memmap(beside, "w+", dtype, shape)
            _reserve(beside)
            fill(array)
            array.flush()
            beside.replace(path)
        return np.load(path, mmap_mode="r")

    def clear(self) -> None:
        """Removes the files."""
        if self._folder.exists():
            self._folder.rmtree()


def _reserve(path: epath.Path) -> None:
    """Takes the room that a file says it has. Without it, writing to the mapped file ends the process when the disk is
    full; with it, an `OSError` says so."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with Path(path).open("rb+") as file:  # etils opens no file for both
            os.posix_fallocate(file.fileno(), 0, path.stat().length)
