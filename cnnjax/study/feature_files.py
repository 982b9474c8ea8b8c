"""Features of frozen prefixes in files of the study's folder."""

import os
import tempfile
from pathlib import Path

import numpy as np
from etils import epath

from cnnjax.filters.features import Fill
from cnnjax.study.files import partial

FOLDER = "features"


class FileStore:
    """Keeps features as `features/KEY.npy`, read as they are needed; the operating system keeps in memory what it can.

    A file is there whole or not at all, so what a killed study computed is not computed again. A study in a bucket has
    its features in a temporary folder of this machine.

    Args:
      folder: of the study; None for a temporary one.
    """

    def __init__(self, folder: epath.Path | None = None) -> None:
        elsewhere = folder is None or "://" in str(folder)
        self._temporary = tempfile.TemporaryDirectory(prefix="cnnjax-") if elsewhere else None
        self._folder = epath.Path(self._temporary.name if self._temporary else folder) / FOLDER
        self._arrays: dict[str, np.ndarray] = {}
        self._used: set[str] = set()

    def get(self, key: str, shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
        """See `cnnjax.filters.features.FeatureStore`; the same array for all who ask."""
        self._used.add(key)
        if key not in self._arrays:
            self._arrays[key] = self._read(key, shape, dtype, fill)
        return self._arrays[key]

    def _read(self, key: str, shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
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

    def forget_unused(self) -> None:
        """Removes the files that nobody has asked for since this was last called."""
        for path in self._folder.iterdir() if self._folder.exists() else ():
            if path.stem not in self._used:
                self._arrays.pop(path.stem, None)
                path.unlink()
        self._used.clear()

    def clear(self) -> None:
        """Removes all files."""
        self._arrays.clear()
        if self._folder.exists():
            self._folder.rmtree()
        if self._temporary:
            self._temporary.cleanup()


def _reserve(path: epath.Path) -> None:
    """Takes the room that a file says it has. Without it, writing to the mapped file ends the process when the disk is
    full; with it, an `OSError` says so."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with Path(path).open("rb+") as file:  # etils opens no file for both
            os.posix_fallocate(file.fileno(), 0, path.stat().length)
