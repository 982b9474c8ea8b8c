"""Features in files, which are whole or not there, until nobody needs them."""

import os
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from cnnjax.study.feature_files import FileStore
from cnnjax.study.files import is_disk_full

SHAPE, DTYPE = (5, 2), np.dtype(np.float32)


def count(out: np.ndarray) -> None:
    out[:] = np.arange(out.size).reshape(out.shape)


def never(out: np.ndarray) -> None:
    pytest.fail("computed again")


def test_features_are_a_file_that_is_read_as_needed(tmp_path: Path) -> None:
    found = FileStore(epath.Path(tmp_path)).get("key", SHAPE, DTYPE, count)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["key.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "features" / "key.npy"), np.arange(10).reshape(5, 2))
    np.testing.assert_array_equal(found, np.arange(10).reshape(5, 2))


def test_file_is_not_made_again_by_this_store_or_the_next(tmp_path: Path) -> None:
    store = FileStore(epath.Path(tmp_path))
    store.get("key", SHAPE, DTYPE, count)
    for other in (store, FileStore(epath.Path(tmp_path))):
        np.testing.assert_array_equal(other.get("key", SHAPE, DTYPE, never), np.arange(10).reshape(5, 2))


def test_files_that_nobody_asks_for_again_are_removed(tmp_path: Path) -> None:
    store = FileStore(epath.Path(tmp_path))
    store.forget_unused()  # there is nothing to remove
    for keys, left in (("ab", ["a", "b"]), ("a", ["a"]), ("", [])):
        for key in keys:
            store.get(key, SHAPE, DTYPE, count)
        store.forget_unused()
        assert sorted(path.stem for path in (tmp_path / "features").iterdir()) == left
    store.clear()
    store.clear()


def test_study_in_a_bucket_has_its_features_on_this_machine() -> None:
    store = FileStore(epath.Path("gs://bucket/study"))
    found = store.get("key", SHAPE, DTYPE, count)
    np.testing.assert_array_equal(store.get("key", SHAPE, DTYPE, never), found)
    file = Path(str(found.filename))
    assert file.exists() and not str(file).startswith("gs:")
    store.clear()
    assert not file.exists()


def test_what_was_cut_off_is_no_file_and_is_made_anew(tmp_path: Path) -> None:
    def stop(out: np.ndarray) -> None:
        out[:2] = 7
        raise KeyboardInterrupt

    store = FileStore(epath.Path(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        store.get("key", SHAPE, DTYPE, stop)
    assert not (tmp_path / "features" / "key.npy").exists()
    np.testing.assert_array_equal(store.get("key", SHAPE, DTYPE, count), np.arange(10).reshape(5, 2))
    store.clear()
    assert not list(tmp_path.iterdir())


def test_full_disk_is_known_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = []

    def refuse(file: int, start: int, length: int) -> None:
        reserved.append(length)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        FileStore(epath.Path(tmp_path)).get("key", SHAPE, DTYPE, never)
    assert is_disk_full(caught.value)
    assert reserved == [40 + 128]  # NumPy's header has 128 bytes
